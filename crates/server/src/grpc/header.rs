//! The header of an answer: who answered, in which term, at which revision.

use crate::backend::Backend;
use crate::proto::etcdserverpb::ResponseHeader;

/// The header of an answer at `revision`. The cluster service answers with 0, as etcd does.
pub(crate) fn header(backend: &impl Backend, revision: i64) -> ResponseHeader {
    let status = backend.status();
    ResponseHeader {
        cluster_id: status.cluster_id,
        member_id: status.member_id,
        revision,
        raft_term: status.term,
    }
}
