//! The configuration as a whole: precedence, shadowing, refusals, checks across settings.

use std::ffi::OsString;
use std::time::Duration;

use super::*;

/// The configuration of a command line without any environment.
pub(super) fn config(line: &str) -> Result<Config, String> {
    config_with(line, &[])
}

fn config_with(line: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    match invoke(line, variables)? {
        Invocation::Serve(config) => Ok(*config),
        Invocation::Print(text) => Err(text),
    }
}

fn invoke(line: &str, variables: &[(&str, &str)]) -> Result<Invocation, String> {
    let words = line.split_whitespace().map(OsString::from);
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Invocation::parse(words, variables).map_err(|error| error.to_string())
}

fn refused(line: &str, expect: &str) {
    let error = config(line).expect_err("the line is bad");
    assert!(error.contains(expect), "{line}: {error}");
}

fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn no_settings_make_etcds_default_member() {
    let config = config("").expect("defaults are good");
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir.to_str(), Some("default.etcd"));
    assert_eq!(config.wal_dir.to_str(), Some("default.etcd/wal"));
    assert_eq!(config.own().expect("it is named").id.to_string(), "8e9e05c52164694d");
    assert_eq!(config.initial.id.to_string(), "cdf818194e3a8c32");
    assert_eq!(config.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert_eq!(config.limits.request_bytes_max, 1_572_864);
    assert_eq!(config.limits.transaction_operations_max, 128);
    assert_eq!(config.limits.quota_backend_bytes, Some(2 << 30));
    assert_eq!(config.limits.concurrent_streams_max, u32::MAX);
    assert_eq!(config.warnings, []);
}

#[test]
fn a_member_of_three() {
    let config = config(
        "--name b --data-dir d --wal-dir w --listen-peer-urls http://127.0.0.1:22380 \
         --initial-advertise-peer-urls http://127.0.0.1:22380 \
         --listen-client-urls http://127.0.0.1:22379 \
         --advertise-client-urls http://127.0.0.1:22379 \
         --initial-cluster a=http://127.0.0.1:12380,b=http://127.0.0.1:22380,\
c=http://127.0.0.1:32380 --initial-cluster-token etcd-cluster-1 \
         --initial-cluster-state existing --quota-backend-bytes=-1 --cors=a,b",
    )
    .expect("a good line");
    assert_eq!(config.own().expect("it is named").id.to_string(), "91bc3c398fb3c146");
    assert_eq!(config.initial.members.len(), 3);
    assert_eq!(config.wal_dir.to_str(), Some("w"));
    assert_eq!(config.cluster_state, ClusterState::Existing);
    assert_eq!(config.limits.quota_backend_bytes, None);
    assert_eq!(config.cors, ["a", "b"]);
    assert_eq!(config.host_whitelist, ["*"]);
}

#[test]
fn a_lone_member_is_its_own_cluster() {
    let config = config("--name x --initial-advertise-peer-urls http://127.0.0.1:7000")
        .expect("a good line");
    assert_eq!(config.initial.members.len(), 1);
    assert_eq!(config.initial.members[0].name, "x");
    assert_eq!(config.initial.members[0].peer_urls[0].as_str(), "http://127.0.0.1:7000");
}

#[test]
fn a_flag_beats_nothing_but_the_default_and_a_variable_stands_alone() {
    let variables = [("ETCD_NAME", "v"), ("ETCD_HEARTBEAT_INTERVAL", "50")];
    let config = config_with("--election-timeout 500", &variables).expect("good settings");
    assert_eq!(config.name, "v");
    assert_eq!(config.heartbeat_interval, Duration::from_millis(50));
    assert_eq!(config.election_timeout, Duration::from_millis(500));
}

#[test]
fn a_flag_that_shadows_a_variable_is_refused_as_in_etcd() {
    let variables = [("ETCD_NAME", "v")];
    let error = config_with("--name f", &variables).expect_err("two different names");
    assert!(error.contains("\"ETCD_NAME\" is shadowed by corresponding command-line flag"));
    assert_eq!(config_with("--name v", &variables).expect("the same twice").name, "v");
    assert_eq!(config_with("--name f", &[("ETCD_NAME", "")]).expect("not set").name, "f");
}

#[test]
fn a_file_replaces_flags_and_variables_and_says_so() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("etcd.yml");
    std::fs::write(&path, "name: from-file\nheartbeat-interval: 20\n").expect("a writable file");
    let path = path.to_str().expect("a UTF-8 path");
    let variables = [("ETCD_ELECTION_TIMEOUT", "7000"), ("ETCD_WAL_DIR", "w")];
    let line = format!("--name from-flag --data-dir d --config-file {path}");
    let by_flag = config_with(&line, &variables).expect("good settings");
    assert_eq!(by_flag.name, "from-file");
    assert_eq!(by_flag.heartbeat_interval, Duration::from_millis(20));
    assert_eq!(by_flag.election_timeout, Duration::from_secs(1));
    assert_eq!(by_flag.data_dir.to_str(), Some("from-file.etcd"));
    let told = warnings(&by_flag);
    for ignored in ["--name", "--data-dir", "ETCD_ELECTION_TIMEOUT", "ETCD_WAL_DIR"] {
        assert!(told.iter().any(|line| line.starts_with(&format!("{ignored} is ignored"))));
    }
    assert_eq!(told.len(), 4);
    let by_variable = config_with("", &[("ETCD_CONFIG_FILE", path)]).expect("good settings");
    assert_eq!(by_variable.name, "from-file");
    assert_eq!(by_variable.warnings, []);
}

#[test]
fn a_file_that_is_not_there_gets_a_sentence() {
    refused("--config-file /nowhere/etcd.yml", "cannot be read");
}

#[test]
fn settings_of_etcd_that_do_nothing_here_get_one_warning_each() {
    let config = config("--enable-v2 --logger=zap --experimental-max-learners 2 --pre-vote=false")
        .expect("a good line");
    let told = warnings(&config);
    assert_eq!(told.len(), 3);
    assert_eq!(config.limits.learners_max, 2, "the older name of --max-learners counts");
    assert!(told.contains(&"--enable-v2 has no effect: etcd itself no longer has it".to_owned()));
    assert!(told.contains(&"--pre-vote has no effect: pre-vote is always on".to_owned()));
}

#[test]
fn settings_that_must_not_be_ignored_are_refused() {
    refused("--auth-token jwt,pub-key=a", "names no sign-method");
    refused("--auth-token other", "there are no such tokens");
    refused("--discovery https://example.com/1", "name the members with --initial-cluster");
    let both = "--discovery-srv example.com --initial-cluster default=http://localhost:2380";
    refused(both, "set one of the two");
    let harmless = config("--client-cert-auth=false --auth-token simple");
    assert_eq!(harmless.expect("defaults are good").warnings, []);
}

#[test]
fn a_new_cluster_is_forced_by_order_only() {
    assert!(!config("").expect("defaults are good").force_new_cluster);
    assert!(config("--force-new-cluster").expect("a good line").force_new_cluster);
}

#[test]
fn the_settings_of_tls_must_go_together() {
    let https = "--listen-client-urls https://127.0.0.1:1 --advertise-client-urls https://a:1";
    refused(
        https,
        "TLS key/cert (--cert-file, --key-file) must be provided for https://127.0.0.1:1",
    );
    refused("--cert-file a.crt", "--cert-file and --key-file must both be present or both absent");
    let files = "--cert-file a.crt --key-file a.key";
    refused(&format!("{files} --client-cert-auth"), "--client-cert-auth needs --trusted-ca-file");
    refused("--client-crl-file a.crl", "without --trusted-ca-file nobody is asked for one");
    let both = "--peer-cert-allowed-cn a --peer-cert-allowed-hostname b";
    refused(both, "are mutually exclusive");
    refused("--cipher-suites TLS_FLY", "the cipher suite \"TLS_FLY\" is unknown");
    refused("--tls-min-version TLS1.1", "TLS1.1 is broken and not offered");
    refused("--tls-min-version TLS1.3 --tls-max-version TLS1.2", "is older than the oldest");
    let plain = config(files).expect("plain text beside files is told");
    assert!(warnings(&plain)[0].contains("carries plain text all the same"));
    let good = config(&format!("{https} {files} --trusted-ca-file ca --peer-cert-allowed-cn="))
        .expect("good");
    assert_eq!(good.warnings, []);
    assert!(good.tls.client.own.is_some() && good.tls.client.trusted.is_some());
    assert!(!good.tls.client.check_origin && good.tls.peer.check_origin);
}

#[test]
fn plain_text_that_other_machines_can_reach_is_told_once() {
    let line = "--listen-client-urls http://0.0.0.0:1,http://127.0.0.1:2 \
                --advertise-client-urls http://a:1 --listen-peer-urls http://10.1.1.1:2";
    let told = warnings(&config(line).expect("it stays possible"));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("PLAIN TEXT: http://0.0.0.0:1, http://10.1.1.1:2 can"), "{told:?}");
}

#[test]
fn settings_are_checked_against_one_another() {
    refused("--heartbeat-interval 300", "should be at least as 5 times as");
    refused("--election-timeout 50001", "at most 50000ms");
    refused("--listen-client-urls http://127.0.0.1:1", "--advertise-client-urls is required when");
    refused("--listen-peer-urls http://host.example:1", "expected IP in URL for binding");
    refused("--listen-peer-urls=", "it takes at least one URL");
    refused("--initial-advertise-peer-urls http://localhost", "URLs with a port");
    refused("--reported-version 3.6.0-rc.1", "three numbers divided by dots");
    refused("--max-txn-ops 0", "a whole number from 1");
}

#[test]
fn large_limits_are_told() {
    let line = "--quota-backend-bytes 9000000000 --max-request-bytes 20000000";
    let told = warnings(&config(line).expect("a good line"));
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|line| line.contains("exceeds the recommended maximum")));
}

#[test]
fn the_version_begins_as_etcds() {
    let print = |line: &str| match invoke(line, &[]) {
        Ok(Invocation::Print(text)) => text,
        other => panic!("{line} prints: {other:?}"),
    };
    assert!(print("--version").starts_with("etcd Version: 3.6."));
    assert!(print("--version --reported-version 3.5.1").starts_with("etcd Version: 3.5.1\n"));
    let help = print("-h");
    for setting in table::all() {
        assert!(help.contains(setting.name), "{}", setting.name);
    }
}

#[test]
fn the_printed_configuration_is_a_configuration_file() {
    let line = "--name a --heartbeat-interval 20 --log-outputs stderr,stdout --print-config";
    let Ok(Invocation::Print(text)) = invoke(line, &[("ETCD_MAX_TXN_OPS", "5")]) else {
        panic!("{line} prints")
    };
    assert!(text.contains("name: \"a\"  # flag --name\n"), "{text}");
    assert!(text.contains("max-txn-ops: 5  # ETCD_MAX_TXN_OPS\n"), "{text}");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("etcd.yml");
    std::fs::write(&path, &text).expect("a writable file");
    let again = config(&format!("--config-file {}", path.display())).expect("it reads back");
    assert_eq!(again.name, "a");
    assert_eq!(again.limits.transaction_operations_max, 5);
    assert_eq!(again.log.outputs, ["stderr", "stdout"]);
}

#[test]
fn a_member_finds_itself_among_the_first() {
    let refused = |line: &str, expect: &str| {
        let config = config(line).expect("the line by itself is good");
        let error = config.own().expect_err("it is not named").to_string();
        assert!(error.contains(expect), "{error}");
    };
    refused("--initial-cluster a=http://localhost:2380", "couldn't find local name \"default\"");
    refused("--initial-cluster default=http://10.1.1.1:1", "must name the same URLs");
}
