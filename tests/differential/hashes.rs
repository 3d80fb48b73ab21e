//! HashKV of both: the same rows must come to the same hash, compacted or not.

use tonic::Status;

use jangada_server::proto::etcdserverpb::HashKvResponse;

use crate::support::client::Client;

/// The revision it ended at, the compacted one, and the hash; or the refusal.
type Hashed = Result<(i64, i64, u32), String>;

fn hashed(answer: Result<HashKvResponse, Status>) -> Hashed {
    let answer = answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
    let revision = answer.header.expect("every answer has a header").revision;
    Ok((revision, answer.compact_revision, answer.hash))
}

/// Compares the hashes of everything, of what was there some revisions ago, and what both say to a
/// revision that is gone or yet to come. Nothing is written meanwhile. Exactly at the compacted
/// revision etcd 3.4 and 3.5.1 refuse and later ones answer, so nobody is asked that.
pub(crate) async fn compare(compacted: i64, newest: i64, theirs: &mut Client, ours: &mut Client) {
    let mut revisions = vec![0, newest + 1000];
    revisions.extend((1 < compacted).then_some(compacted - 1));
    revisions.extend([newest - 20].into_iter().filter(|at| compacted.max(1) < *at));
    for revision in revisions {
        let (expected, found) = tokio::join!(theirs.hash_kv(revision), ours.hash_kv(revision));
        assert_eq!(hashed(found), hashed(expected), "HashKV at revision {revision}");
    }
}
