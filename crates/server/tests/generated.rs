//! The committed code under `src/proto` is what the generators make of `proto/*.proto`.
//!
//! `JANGADA_REWRITE=1 cargo test -p jangada-server --test generated` writes the files anew.

use std::path::Path;

const FILES: [&str; 6] =
    ["kv.proto", "auth.proto", "rpc.proto", "lock.proto", "election.proto", "health.proto"];

const PACKAGES: [&str; 6] =
    ["etcdserverpb", "mvccpb", "authpb", "v3lockpb", "v3electionpb", "grpc.health.v1"];

/// Generates clients and servers into `folder`.
fn generate(folder: &Path) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([&sources]).expect("the proto folder can be read");
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES).expect("the proto files are valid");
    tonic_prost_build::configure()
        .build_transport(false)
        .generate_default_stubs(true)
        .bytes(".")
        .emit_rerun_if_changed(false)
        .out_dir(folder)
        .compile_fds(compiler.file_descriptor_set())
        .expect("the code can be generated");
}

/// The descriptions of the messages, by which the gateway translates them.
#[test]
fn committed_descriptions_are_those_of_the_proto_files() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([&sources]).expect("the proto folder can be read");
    compiler.include_imports(true);
    compiler.open_files(FILES).expect("the proto files are valid");
    let made = compiler.encode_file_descriptor_set();
    let path = sources.join("descriptors.bin");
    if std::env::var_os("JANGADA_REWRITE").is_some() {
        std::fs::write(&path, &made).expect("the file can be written");
        return;
    }
    let committed = std::fs::read(&path).unwrap_or_default();
    assert!(
        committed == made,
        "proto/descriptors.bin is not what protox makes of the proto files; run this test with \
         JANGADA_REWRITE=1 and commit the result"
    );
}

#[test]
fn committed_code_is_what_the_generators_make() {
    let made = tempfile::tempdir().expect("a temporary folder can be made");
    generate(made.path());
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proto");
    let rewrite = std::env::var_os("JANGADA_REWRITE").is_some();
    for package in PACKAGES {
        let name = format!("{package}.rs");
        let new = std::fs::read_to_string(made.path().join(&name)).expect("the file is generated");
        if rewrite {
            std::fs::write(committed.join(&name), &new).expect("the file can be written");
            continue;
        }
        let old = std::fs::read_to_string(committed.join(&name)).unwrap_or_default();
        assert!(
            old == new,
            "src/proto/{name} is not what the generators make of the proto files; \
             run this test with JANGADA_REWRITE=1 and commit the result"
        );
    }
}
