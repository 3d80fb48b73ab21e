//! Who may watch what: the one place that is asked, for every watcher that a stream makes.

use http::HeaderMap;

use crate::backend::Backend;
use crate::edge::Context;
use crate::errors::ApiError;

/// Whether the caller of a stream may read a range, which is named as the watch reads it: an empty key
/// is a zero byte by now, an empty end means the key alone, a zero byte no end. Everyone may read
/// everything: there are no users.
///
/// # Errors
/// Why not; the watcher is not made.
pub(crate) fn check_watch<B: Backend>(
    _context: &Context<B>,
    _metadata: &HeaderMap,
    _key: &[u8],
    _range_end: &[u8],
) -> Result<(), ApiError> {
    Ok(())
}
