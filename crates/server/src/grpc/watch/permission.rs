//! Who may watch what: the one place that is asked, for every watcher that a stream makes.

use jangada_kv::auth::Access;

use crate::auth::Asker;
use crate::backend::Backend;
use crate::edge::Context;
use crate::errors::ApiError;

/// Whether the caller of a stream may read a range, which is named as the watch reads it: an empty key
/// is a zero byte by now, an empty end means the key alone, a zero byte no end. What is allowed stays
/// allowed for as long as the watcher lives, as in etcd.
///
/// # Errors
/// Why not; the watcher is not made.
pub(crate) fn check_watch<B: Backend>(
    context: &Context<B>,
    asker: Asker<'_>,
    key: &[u8],
    range_end: &[u8],
) -> Result<(), ApiError> {
    context.guard.judge_now(&context.backend, asker, Access::Read(key, range_end))
}
