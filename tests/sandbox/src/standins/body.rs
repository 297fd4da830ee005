//! The body of an answer, which may end before its time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// The order to cut the connection, as hyper takes it: an error instead of an answer or its rest.
#[derive(Debug)]
pub(super) struct CutOrdered;

impl std::fmt::Display for CutOrdered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the connection is cut on order")
    }
}

impl std::error::Error for CutOrdered {}

/// A body that is sent as a whole, or half of one that was announced as a whole.
#[derive(Debug)]
pub(super) struct SentBody {
    rest: Option<Bytes>,
    announced: u64,
    is_cut: bool,
}

impl SentBody {
    pub(super) fn whole(content: Bytes) -> Self {
        Self {
            announced: content.len() as u64,
            rest: (!content.is_empty()).then_some(content),
            is_cut: false,
        }
    }

    /// Sends only the first half.
    pub(super) fn cut_within(&mut self) {
        self.is_cut = true;
        if let Some(rest) = &mut self.rest {
            rest.truncate(rest.len() / 2);
        }
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = CutOrdered;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOrdered>>> {
        Poll::Ready(match self.rest.take() {
            Some(rest) => Some(Ok(Frame::data(rest))),
            None => self.is_cut.then_some(Err(CutOrdered)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && !self.is_cut
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
