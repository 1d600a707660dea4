//! What it means for whoever wants something changed that a call was not answered as it should be.

use bytes::Bytes;
use hyper::StatusCode;

use super::{Answer, ApiError, Broken};
use crate::channel::PushError;

impl Answer {
    /// The body, if the channel carried the call out. Where it says that something broke on its side, nobody
    /// knows; where it says that it will not, it did nothing.
    pub fn changed(self) -> Result<Bytes, PushError> {
        let unknown = self.status.is_server_error() || self.status == StatusCode::REQUEST_TIMEOUT;
        self.success().map_err(|error| match PushError::from(error) {
            PushError::Refused(why) if unknown => PushError::Unknown(why),
            error => error,
        })
    }
}

impl From<Broken> for PushError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Invalid(why) | Broken::Unsent(why) => Self::Refused(why),
            broken => Self::Unknown(broken.to_string()),
        }
    }
}

/// Of a call that changes nothing: it was not carried out, whatever became of it.
impl From<ApiError> for PushError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Unauthorised(why) => Self::Unauthorised(why),
            ApiError::Limited { wait_ms } => Self::Limited { wait_ms },
            ApiError::Refused(why) | ApiError::Unreachable(why) => Self::Refused(why),
            ApiError::NotFound | ApiError::Unreadable(_) => Self::Refused(error.to_string()),
        }
    }
}
