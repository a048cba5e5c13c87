//! The broker's clock, for times that are meant for it: machines differ, and a schedule fires by the broker's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use chrono::TimeDelta;
use protocol::time::{self, Timestamp};
use serde::Deserialize;

use crate::{Connection, api, error::Error};

/// The broker's clock as it was last seen, carried on by the monotonic one.
#[derive(Clone, Debug)]
pub struct BrokerClock {
    seen: Arc<Mutex<(Instant, Timestamp)>>,
}

#[derive(Deserialize)]
struct Told {
    ts: Option<Timestamp>,
}

impl BrokerClock {
    /// Starts from this machine's clock; ask [`BrokerClock::adjust`] for the broker's.
    pub fn unadjusted() -> Self {
        Self { seen: Arc::new(Mutex::new((Instant::now(), time::now()))) }
    }

    /// Looks at the broker's clock, which stream info carries. Half of the round trip is taken as the way back.
    ///
    /// # Errors
    /// What the API says.
    pub async fn adjust(&self, connection: &Connection, stream: &str) -> Result<(), Error> {
        let asked = Instant::now();
        let told: Told = api::ask_empty(connection, &format!("STREAM.INFO.{stream}")).await?;
        if let Some(moment) = told.ts {
            let middle = asked + asked.elapsed() / 2;
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (middle, moment);
        }
        Ok(())
    }

    /// Now, on the broker's clock.
    pub fn now(&self) -> Timestamp {
        let (at, moment) = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        moment + TimeDelta::from_std(at.elapsed()).unwrap_or(TimeDelta::zero())
    }
}
