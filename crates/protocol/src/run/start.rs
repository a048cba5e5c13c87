//! The start of a run as its headers tell it. The body is the run's input.

use crate::{
    Capability, Headers, Lane, Origin, Request, RequestId, RunId, StepAddress, StepName, codes, header,
    request::{Invalid, parse_step_address},
    run::sub_run_of,
};

/// What the headers of a start say.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// What they say of it as a request: id, deadline, body, trace. Its id is the run's.
    pub request: Request,
    /// The run.
    pub run: RunId,
    /// The step whose outcome the run's is, if it is a sub-run.
    pub reply_to: Option<StepAddress>,
    /// The lane of its steps where they name none.
    pub lane: Lane,
    /// What was asked for, where the run is what became of a request: its outcome and its letter speak of that.
    pub capability: Option<Capability>,
    /// The run that this one does again.
    pub retry_of: Option<RunId>,
    /// The step from which on it is done again; what was done before is taken over. None: what had failed.
    pub retry_from: Option<StepName>,
}

impl Start {
    /// The run that a request for a capability is, where a workflow serves that capability. A step's request has a `~` in its
    /// id: its run is that of a sub-run.
    ///
    /// # Errors
    /// [`Invalid`] where its id cannot be that of a run.
    pub fn of_request(mut request: Request, capability: Capability, lane: Lane) -> Result<Self, Invalid> {
        let reply_to = request.reply_to.take();
        if let Some(address) = &reply_to {
            let step = address.request();
            request.parent = Some(step.to_string());
            request.id = RequestId::from(&sub_run_of(&step));
        }
        let run = RunId::parse(request.id.as_str()).map_err(|error| Invalid {
            id: request.id.clone(),
            failure: crate::Failure::new(codes::INVALID_HEADER, format!("{}: {error}", header::REQUEST_ID)),
        })?;
        Ok(Self { request, run, reply_to, lane, capability: Some(capability), retry_of: None, retry_from: None })
    }

    /// Reads what a received message says. `fallback` is the id by the message's sequence.
    ///
    /// # Errors
    /// [`Invalid`] where a header of ours does not say what it may say.
    pub fn read(headers: &Headers, fallback: RequestId) -> Result<Self, Invalid> {
        // A request that has a reply-to is a step's and has its id. A start has one of its own.
        let mut plain = headers.clone();
        plain.remove(header::REPLY_TO);
        let refused = |name: &str, fault: String| Invalid {
            id: fallback.clone(),
            failure: crate::Failure::new(codes::INVALID_HEADER, format!("{name}: {fault}")),
        };
        let reply_to = headers.get(header::REPLY_TO).map(parse_step_address).transpose();
        let reply_to = reply_to.map_err(|fault| refused(header::REPLY_TO, fault))?;
        if let Some(address) = &reply_to {
            let own = sub_run_of(&address.request());
            let named = plain.get(header::REQUEST_ID).unwrap_or(own.as_str());
            if named != own.as_str() {
                let fault = format!("is not {own}, the run that belongs to its reply-to");
                return Err(refused(header::REQUEST_ID, fault));
            }
            plain.set(header::REQUEST_ID, own.as_str());
        }
        let capability = headers.get(header::CAPABILITY).map(Capability::parse).transpose();
        let capability = capability.map_err(|error| refused(header::CAPABILITY, error.to_string()))?;
        // Whoever took the request had its id by sequence, which nobody chooses for himself.
        let by_sequence = |id: &RequestId| matches!(id.origin(), Origin::Sequence(_) | Origin::UniqueSequence(_));
        let handed_on = plain.get(header::REQUEST_ID).and_then(|text| RequestId::parse(text).ok()).filter(by_sequence);
        let known_as = match handed_on.filter(|_| capability.is_some()) {
            Some(id) => {
                plain.remove(header::REQUEST_ID);
                plain.remove(header::NATS_MSG_ID);
                id
            }
            None => fallback.clone(),
        };
        let request = Request::read(&plain, known_as)?;
        let run = RunId::parse(request.id.as_str());
        let run = run.map_err(|error| refused(header::REQUEST_ID, error.to_string()))?;
        let lane = headers.get(header::LANE).map(|text| Lane::named(text).ok_or(text)).transpose();
        let lane = lane.map_err(|text| {
            let text = crate::limits::truncate(text, 40);
            refused(header::LANE, format!("`{text}` is not urgent, normal or bulk"))
        })?;
        let retry_of = headers.get(header::RETRY_OF).map(RunId::parse).transpose();
        let retry_from = headers.get(header::RETRY_FROM).map(StepName::parse).transpose();
        Ok(Self {
            retry_of: retry_of.map_err(|error| refused(header::RETRY_OF, error.to_string()))?,
            retry_from: retry_from.map_err(|error| refused(header::RETRY_FROM, error.to_string()))?,
            lane: lane.unwrap_or_default(),
            capability,
            request,
            run,
            reply_to,
        })
    }

    /// Writes every header that this start needs, over whatever of them is already there.
    pub fn write(&self, headers: &mut Headers) {
        self.request.write(headers);
        let mut optional = |name: &str, value: Option<String>| match value {
            Some(value) => headers.set(name, value),
            None => headers.remove(name),
        };
        optional(header::REPLY_TO, self.reply_to.as_ref().map(StepAddress::subject));
        optional(header::LANE, (self.lane != Lane::default()).then(|| self.lane.name().to_owned()));
        optional(header::CAPABILITY, self.capability.as_ref().map(ToString::to_string));
        optional(header::RETRY_OF, self.retry_of.as_ref().map(ToString::to_string));
        optional(header::RETRY_FROM, self.retry_from.as_ref().map(ToString::to_string));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Start, Invalid> {
        let headers = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Start::read(&headers, RequestId::of_sequence(7))
    }

    #[test]
    fn a_bare_start_is_a_run_named_by_its_sequence() {
        let start = read(&[]).unwrap();
        assert_eq!((start.run.as_str(), start.lane, start.reply_to), ("seq-7", Lane::Normal, None));
    }

    #[test]
    fn a_start_survives_its_headers() {
        let reply = "fleet.run.order-1.step.ship.3.outcome";
        let sub = sub_run_of(&RequestId::parse("order-1~ship~3").unwrap());
        let start = read(&[
            ("Sortie-Request-Id", sub.as_str()),
            ("Sortie-Reply-To", reply),
            ("Sortie-Lane", "bulk"),
            ("Sortie-Retry-Of", "order-0"),
            ("Sortie-Retry-From", "ship"),
            ("Sortie-Deadline", "2030-01-01T00:00:00Z"),
        ])
        .unwrap();
        let mut headers = Headers::new();
        start.write(&mut headers);
        assert_eq!(Start::read(&headers, RequestId::of_sequence(8)), Ok(start.clone()));
        assert_eq!((start.run, start.lane), (sub, Lane::Bulk));
    }

    #[test]
    fn a_request_is_a_run_of_the_same_id_and_a_steps_request_a_sub_run() {
        let audit = || Capability::parse("audit").unwrap();
        for id in ["order-1", "seq-7", "useq-3"] {
            let start = Start::of_request(Request::new(RequestId::parse(id).unwrap()), audit(), Lane::Urgent).unwrap();
            assert_eq!((start.run.as_str(), start.lane), (id, Lane::Urgent));
            let mut headers = Headers::new();
            start.write(&mut headers);
            headers.set(header::NATS_MSG_ID, format!("{id}:start"));
            assert_eq!(Start::read(&headers, RequestId::of_sequence(8)), Ok(start));
        }
        let step = RequestId::parse("order-1~ship~3").unwrap();
        let mut request = Request::new(step.clone());
        request.reply_to = parse_step_address("fleet.run.order-1.step.ship.3.outcome").ok();
        let start = Start::of_request(request, audit(), Lane::Normal).unwrap();
        assert_eq!((&start.run, start.request.parent.as_deref()), (&sub_run_of(&step), Some("order-1~ship~3")));
        let mut headers = Headers::new();
        start.write(&mut headers);
        assert_eq!(Start::read(&headers, RequestId::of_sequence(8)), Ok(start));
        let long = RequestId::parse(&"x".repeat(65)).unwrap();
        let invalid = Start::of_request(Request::new(long.clone()), audit(), Lane::Normal).unwrap_err();
        assert_eq!((invalid.id, invalid.failure.code.as_str()), (long, codes::INVALID_HEADER));
    }

    #[test]
    fn what_lies_is_refused_under_the_id_of_its_sequence() {
        let reply = ("Sortie-Reply-To", "fleet.run.order-1.step.ship.3.outcome");
        for pairs in [
            &[("Sortie-Lane", "fast")][..],
            &[("Sortie-Capability", "Not One")],
            &[("Sortie-Request-Id", "seq-3")],
            &[("Sortie-Retry-Of", "a.b")],
            &[reply, ("Sortie-Request-Id", "order-2")],
            &[("Sortie-Reply-To", "elsewhere")],
            &[("Sortie-Request-Id", "a-name-that-is-longer-than-the-sixty-four-bytes-that-a-run-may-have")],
        ] {
            let invalid = read(pairs).unwrap_err();
            assert_eq!((invalid.id.as_str(), invalid.failure.code.as_str()), ("seq-7", codes::INVALID_HEADER));
        }
    }
}
