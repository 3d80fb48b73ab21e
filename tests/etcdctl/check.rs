//! etcdctl's check of what a cluster bears: the one that is over soon. `check perf` takes a minute.

use crate::support::cluster::Cluster;
use crate::support::{foreign, run};
use crate::{LIMIT, addresses, etcdctl};

#[test]
fn etcdctl_measures_what_data_takes_by_the_metrics() {
    let etcdctls = foreign::etcdctls();
    let Some(program) = etcdctls.last() else { return foreign::skip("etcdctl") };
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let endpoints = addresses(&cluster);
        let first = endpoints.split(',').next().expect("there are three");
        // Longer than the other commands may take: it writes ten thousand keys.
        let words = ["check", "datascale", "--load=s", "--prefix=check/", "--command-timeout=120s"];
        let printed = etcdctl(program, first, &words);
        let text = format!("{}{}", printed.out, printed.error);
        assert!(printed.success && text.contains("PASS: Approximate system memory used"), "{text}");
        let left = etcdctl(program, &endpoints, &["get", "check/", "--prefix", "--keys-only"]);
        assert_eq!((left.success, left.out.trim()), (true, ""), "it removes what it wrote");
    });
}
