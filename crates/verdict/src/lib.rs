//! Is a new version good enough to stay? Statistics, thresholds, policies and the decision, as pure functions over
//! what somebody else measured. It refuses to know network, clock, Kubernetes, Prometheus and the runner.
//!
//! # How often it is wrong
//!
//! A release is looked at again and again, so a test that is right 99 times of 100 at each look is wrong in a third
//! of releases of 45 looks. Everything statistical here is therefore an *e-process*: a bet against "the new version is
//! no worse", whose capital grows while the bet wins. When the version is in fact no worse, the capital never
//! exceeds `1 / alpha` with more than the probability `alpha`, **at any time, however often and whenever one looks**
//! (Ville's inequality; Shafer 2021, Ramdas and others 2023). Alpha spending (Lan and DeMets 1983) would have needed
//! the number of looks beforehand, and ours are not planned: a watch is lengthened, resumed, and looks at once when a
//! pod changes. The budget is divided by the tests of a watch ([`test_alpha`]), so it holds for the whole release.
//!
//! The bets are likelihood ratios of exact distributions: binomial against a limit ([`rates::AboveLimit`]), Fisher's
//! conditional (hypergeometric) one against a baseline ([`rates::WorseThan`]), Mann–Whitney's for latencies
//! ([`ranks::SlowerThan`]).

pub mod check;
pub mod checklist;
pub mod decision;
pub mod evidence;
mod numbers;
pub mod ranks;
pub mod rates;
pub mod rule;

pub use check::{Check, Conclusion, Judgement};
pub use decision::{Action, Concern, Decision, Failing, Ordered, Thresholds, decide};
pub use evidence::{Evidence, RELEASE_ALPHA, test_alpha};
pub use rates::Count;
pub use rule::{Measurement, Policies, Policy, Rule, Verdict};
