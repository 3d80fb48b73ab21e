#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jangada_fuzz::core_schedule::check(data));
