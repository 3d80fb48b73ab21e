//! etcdctl's commands about hashes and space.

use serde_json::Value;

use crate::support::cluster::{Cluster, Plan, Program};
use crate::support::{foreign, run};
use crate::{LIMIT, addresses, etcdctl};

/// The hash of each endpoint, and the revision up to which it was made.
fn hashes(program: &foreign::Etcd, cluster: &Cluster) -> Vec<(u64, i64)> {
    let printed = etcdctl(program, &addresses(cluster), &["endpoint", "hashkv", "-w=json"]);
    assert!(printed.success, "{printed:?}");
    let answers: Value = serde_json::from_str(&printed.out).expect("it is JSON");
    let figures = |answer: &Value| {
        let hashed = &answer["HashKV"];
        let number = |value: &Value| value.as_i64().expect("a number");
        (hashed["hash"].as_u64().expect("a hash"), number(&hashed["compact_revision"]))
    };
    answers.as_array().expect("a list of endpoints").iter().map(figures).collect()
}

#[test]
fn etcdctl_hashes_and_defragments_members_as_those_of_etcd() {
    let (etcdctls, etcds) = (foreign::etcdctls(), foreign::etcds());
    let Some(etcd) = etcds.last() else { return foreign::skip("etcd") };
    if etcdctls.is_empty() {
        return foreign::skip("etcdctl");
    }
    run(LIMIT, async {
        for program in &etcdctls {
            let theirs = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
            let ours = Cluster::three().await;
            for words in
                [&["put", "a", "1"][..], &["put", "b", "2"], &["del", "a"], &["compaction", "3"]]
            {
                for cluster in [&theirs, &ours] {
                    let printed = etcdctl(program, &addresses(cluster), words);
                    assert!(printed.success, "{words:?}: {printed:?}");
                }
            }
            // The last entry is applied by all who answer a linearizable read.
            for member in 0..3 {
                ours.client(member).get_key("b").await.expect("it serves");
            }
            let expected = hashes(program, &theirs)[0];
            assert_eq!(hashes(program, &ours), [expected; 3], "etcdctl {}", program.version);
            let printed = etcdctl(program, &addresses(&ours), &["defrag"]);
            assert!(printed.success, "{printed:?}");
            assert_eq!(printed.out.matches("Finished defragmenting etcd member").count(), 3);
        }
    });
}
