/// Why a workload could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The fleet was asked and refused.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The broker refused.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// The bare loop could not do its part.
    #[error("the yardstick could not be measured: {0}")]
    Yardstick(String),
    /// Something ended otherwise than it should: such a run measures nothing.
    #[error("{0}")]
    Wrong(String),
}

impl Error {
    /// For the client library's many errors.
    pub(crate) fn of_yardstick(error: impl std::fmt::Display) -> Self {
        Self::Yardstick(error.to_string())
    }
}
