#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jangada_fuzz::snapshot_file::check(data));
