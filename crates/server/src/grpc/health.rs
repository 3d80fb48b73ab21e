//! The standard health service of gRPC. The server as a whole, named by the empty string, serves as
//! long as it answers at all; no service of its own has a state of its own.

use bytes::Bytes;
use tonic::Status;

use super::{Received, framing};
use crate::proto::health as pb;
use pb::health_check_response::ServingStatus;

/// The state of a service.
pub(crate) fn check(request: Received<pb::HealthCheckRequest>) -> Result<Bytes, Status> {
    if !request.message.service.is_empty() {
        return Err(Status::not_found("unknown service"));
    }
    framing::encode(&response(ServingStatus::Serving))
}

/// The first message of a watch. No other follows, for the state does not change.
pub(crate) fn watch(request: Received<pb::HealthCheckRequest>) -> Result<Bytes, Status> {
    let known = request.message.service.is_empty();
    let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
    framing::encode(&response(status))
}

fn response(status: ServingStatus) -> pb::HealthCheckResponse {
    pb::HealthCheckResponse { status: status as i32 }
}
