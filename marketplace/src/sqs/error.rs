//! What the queue refuses, in the shapes of the AWS JSON protocol.

use hyper::header::HeaderValue;
use serde_json::{Value, json};

/// A refused call, or one refused entry of a batch.
///
/// The query codes and the statuses of the modelled errors are those of the service's published model;
/// what stands before the queue (signatures, unknown operations) answers under `com.amazon.coral.service`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("Request is missing Authentication Token")]
    MissingAuthenticationToken,
    #[error("{0}")]
    IncompleteSignature(String),
    #[error("The security token included in the request is invalid.")]
    UnrecognizedClient,
    #[error("{0}")]
    InvalidSignature(String),
    #[error("The requested operation is not recognized by the service.")]
    UnknownOperation,
    #[error("{0}")]
    Serialization(String),
    #[error("The request must contain the parameter {0}.")]
    MissingParameter(&'static str),
    #[error("Value {value} for parameter {parameter} is invalid. Reason: {reason}")]
    InvalidParameterValue { parameter: &'static str, value: String, reason: String },
    #[error("Total VisibilityTimeout for the message is beyond the limit [43200 seconds].")]
    VisibilityBeyondLimit,
    #[error("The specified queue does not exist.")]
    QueueDoesNotExist,
    #[error("The input receipt handle \"{0}\" is not a valid receipt handle.")]
    ReceiptHandleIsInvalid(String),
    #[error("The specified message isn't in flight.")]
    MessageNotInflight,
    #[error("Too many messages are in flight.")]
    OverLimit,
    #[error("Rate exceeded.")]
    RequestThrottled,
    #[error("Maximum number of entries per request are 10. You have sent {0}.")]
    TooManyEntriesInBatchRequest(usize),
    #[error("There should be at least one {0} in the request.")]
    EmptyBatchRequest(&'static str),
    #[error("Id {0} repeated.")]
    BatchEntryIdsNotDistinct(String),
    #[error(
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. \
         It can be at most 80 letters long."
    )]
    InvalidBatchEntryId,
    #[error("We encountered an internal error. Please try again.")]
    Internal(u16),
}

impl Error {
    /// Status, shape, and the code that the older query protocol has for it.
    fn names(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::MissingAuthenticationToken => {
                (403, "MissingAuthenticationTokenException", "MissingAuthenticationToken")
            }
            Self::IncompleteSignature(_) => {
                (400, "IncompleteSignatureException", "IncompleteSignature")
            }
            Self::UnrecognizedClient => {
                (403, "UnrecognizedClientException", "InvalidClientTokenId")
            }
            Self::InvalidSignature(_) => {
                (403, "InvalidSignatureException", "SignatureDoesNotMatch")
            }
            Self::UnknownOperation => (400, "UnknownOperationException", "InvalidAction"),
            Self::Serialization(_) => (400, "SerializationException", "MalformedInput"),
            Self::MissingParameter(_) => (400, "MissingParameterException", "MissingParameter"),
            Self::InvalidParameterValue { .. } | Self::VisibilityBeyondLimit => {
                (400, "InvalidParameterValueException", "InvalidParameterValue")
            }
            Self::QueueDoesNotExist => {
                (400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")
            }
            Self::ReceiptHandleIsInvalid(_) => {
                (404, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid")
            }
            Self::MessageNotInflight => {
                (400, "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight")
            }
            Self::OverLimit => (403, "OverLimit", "OverLimit"),
            Self::RequestThrottled => (403, "RequestThrottled", "RequestThrottled"),
            Self::TooManyEntriesInBatchRequest(_) => (
                400,
                "TooManyEntriesInBatchRequest",
                "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            ),
            Self::EmptyBatchRequest(_) => {
                (400, "EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest")
            }
            Self::BatchEntryIdsNotDistinct(_) => {
                (400, "BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct")
            }
            Self::InvalidBatchEntryId => {
                (400, "InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId")
            }
            Self::Internal(status) => (*status, "InternalFailure", "InternalFailure"),
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.names().0
    }

    /// The error's body.
    pub(crate) fn body(&self) -> Value {
        let (_, shape, _) = self.names();
        let space = if shape.ends_with("Exception") || !self.is_sender() {
            "com.amazon.coral.service"
        } else {
            "com.amazonaws.sqs"
        };
        json!({"__type": format!("{space}#{shape}"), "message": self.to_string()})
    }

    /// `x-amzn-query-error`, by which clients that knew the older protocol know the error.
    pub(crate) fn query_error(&self) -> Option<HeaderValue> {
        let (_, _, code) = self.names();
        HeaderValue::from_str(&format!(
            "{code};{}",
            if self.is_sender() { "Sender" } else { "Receiver" }
        ))
        .ok()
    }

    /// This error as one entry of a batch's `Failed`.
    pub(crate) fn entry(&self, id: &str) -> Value {
        let (_, _, code) = self.names();
        json!({
            "Id": id, "SenderFault": self.is_sender(), "Code": code, "Message": self.to_string(),
        })
    }

    fn is_sender(&self) -> bool {
        !matches!(self, Self::Internal(_))
    }
}
