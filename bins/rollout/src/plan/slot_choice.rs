//! Which slot a deployment goes to, and that it is never the live one.

use std::collections::BTreeMap;

use switchyard_manifest::{Place, Slot};
use switchyard_record::Side;

use crate::inputs::SlotChoice;

/// What is known of the sides before the slot is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KnownSides {
    /// The side that this deployment was given before, if it was.
    pub fixed: Option<Side>,
    /// The live side in the application's record.
    pub recorded: Option<Side>,
    /// Sides that live traffic reaches, with the object that sends it there.
    pub seen: BTreeMap<Side, String>,
    /// Whether pods of a slot run although nothing tells which slot is live.
    pub are_slots_running: bool,
    /// Whether fronts were found that tell.
    pub has_front: bool,
}

/// Why no slot is chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SlotRefusal {
    /// The named slot is live.
    #[error(
        "slot `{slot}` takes live traffic ({evidence}); applying there would change what users see"
    )]
    Live {
        /// The slot.
        slot: Slot,
        /// What tells so.
        evidence: String,
    },
    /// Both slots take traffic.
    #[error("both slots take live traffic (blue: {blue}; green: {green}), so neither is idle")]
    BothLive {
        /// What sends traffic to blue.
        blue: String,
        /// What sends traffic to green.
        green: String,
    },
    /// Record and cluster contradict each other.
    #[error("the record says that side `{recorded}` is live, but live traffic reaches {seen}")]
    Contradiction {
        /// The side in the record.
        recorded: Side,
        /// Where the traffic goes.
        seen: String,
    },
    /// The deployment was given another side before.
    #[error("this deployment goes to side `{fixed}` since it began; `slot` is now `{asked}`")]
    Fixed {
        /// The side of the deployment.
        fixed: Side,
        /// The input.
        asked: &'static str,
    },
    /// A canary was asked for beside slots.
    #[error("slot `{slot}` is live, and a canary stands beside a main workload without slots")]
    NoCanary {
        /// The live slot.
        slot: Slot,
    },
    /// Slots run and nothing tells which is live.
    #[error("pods run in slots, and neither a front nor a record tells which slot is live")]
    Unknown,
}

impl SlotRefusal {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Live { .. } => "use `slot: auto`, which takes the idle slot",
            Self::BothLive { .. } => {
                "a switch is under way or was left half-way: finish it or take it back with `traffic-switch`"
            }
            Self::Contradiction { .. } => {
                "somebody moved traffic by hand: move it back, or settle the record with `traffic-switch rollback`"
            }
            Self::Fixed { .. } => {
                "re-run with the inputs that the deployment began with, or start a new one"
            }
            Self::NoCanary { .. } => {
                "deploy with `slot: auto`, and give the new side its traffic in `steps` of `traffic-switch`"
            }
            Self::Unknown => {
                "give `application`, so that there is a record, or name the front Service as `front: service/NAME`"
            }
        }
    }
}

/// Chooses the slot; `None` means in place.
///
/// # Errors
/// See [`SlotRefusal`].
pub(crate) fn choose(choice: SlotChoice, known: &KnownSides) -> Result<Option<Place>, SlotRefusal> {
    if let Some(fixed) = known.fixed {
        let agrees = match choice {
            SlotChoice::Auto => fixed.slot().is_some(),
            SlotChoice::None => matches!(fixed, Side::Unslotted | Side::Stable),
            SlotChoice::Blue | SlotChoice::Green => choice.named() == fixed.slot(),
            SlotChoice::Canary => fixed == Side::Canary,
        };
        return if agrees {
            Ok(place_of(fixed))
        } else {
            Err(SlotRefusal::Fixed {
                fixed,
                asked: choice.as_str(),
            })
        };
    }
    match choice {
        SlotChoice::None => return Ok(None),
        SlotChoice::Canary => return beside_main(known).map(Some),
        SlotChoice::Auto | SlotChoice::Blue | SlotChoice::Green => {}
    }
    slot_of(choice, known).map(|slot| Some(Place::Slot(slot)))
}

/// The place that a side is; nothing for those under the manifest's own names.
fn place_of(side: Side) -> Option<Place> {
    match side {
        Side::Slot(slot) => Some(Place::Slot(slot)),
        Side::Canary => Some(Place::Canary),
        Side::Stable | Side::Unslotted => None,
    }
}

/// A canary needs a main workload without slots beside it that takes the traffic.
fn beside_main(known: &KnownSides) -> Result<Place, SlotRefusal> {
    let mut sides = known.recorded.iter().chain(known.seen.keys());
    match sides.find_map(|side| side.slot()) {
        Some(slot) => Err(SlotRefusal::NoCanary { slot }),
        None => Ok(Place::Canary),
    }
}

fn slot_of(choice: SlotChoice, known: &KnownSides) -> Result<Slot, SlotRefusal> {
    let live = |slot: Slot| {
        let side = Side::Slot(slot);
        let seen = known.seen.get(&side).map(|by| format!("by {by}"));
        let recorded = (known.recorded == Some(side)).then(|| "as its record says".to_owned());
        seen.or(recorded)
    };
    if let Some(slot) = choice.named() {
        return match live(slot) {
            Some(evidence) => Err(SlotRefusal::Live { slot, evidence }),
            None => Ok(slot),
        };
    }
    refuse_contradiction(known)?;
    match (live(Slot::Blue), live(Slot::Green)) {
        (Some(blue), Some(green)) => Err(SlotRefusal::BothLive { blue, green }),
        (Some(_), None) => Ok(Slot::Green),
        (None, Some(_)) => Ok(Slot::Blue),
        (None, None) if known.are_slots_running && !known.has_front && known.recorded.is_none() => {
            Err(SlotRefusal::Unknown)
        }
        (None, None) => Ok(Slot::Blue),
    }
}

fn refuse_contradiction(known: &KnownSides) -> Result<(), SlotRefusal> {
    match known.recorded {
        Some(recorded) if !known.seen.is_empty() && !known.seen.contains_key(&recorded) => {
            let seen: Vec<String> = known
                .seen
                .iter()
                .map(|(side, by)| format!("`{side}` (by {by})"))
                .collect();
            Err(SlotRefusal::Contradiction {
                recorded,
                seen: seen.join(" and "),
            })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sides: &[Side]) -> KnownSides {
        KnownSides {
            seen: sides
                .iter()
                .map(|side| (*side, "service/web".to_owned()))
                .collect(),
            has_front: true,
            ..KnownSides::default()
        }
    }

    #[test]
    fn auto_takes_the_slot_without_traffic_and_blue_at_first() {
        let auto = |known: &KnownSides| choose(SlotChoice::Auto, known).ok().flatten();
        let (blue, green) = (
            Some(Place::Slot(Slot::Blue)),
            Some(Place::Slot(Slot::Green)),
        );
        assert_eq!(auto(&KnownSides::default()), blue);
        assert_eq!(auto(&seen(&[Side::Unslotted])), blue);
        assert_eq!(auto(&seen(&[Side::BLUE])), green);
        assert_eq!(auto(&seen(&[Side::GREEN])), blue);
        let recorded = KnownSides {
            recorded: Some(Side::BLUE),
            ..KnownSides::default()
        };
        assert_eq!(auto(&recorded), green);
    }

    #[test]
    fn the_live_slot_is_refused_with_what_sends_traffic_there() {
        assert_eq!(
            choose(SlotChoice::Blue, &seen(&[Side::BLUE])).map_err(|refusal| refusal.to_string()),
            Err("slot `blue` takes live traffic (by service/web); applying there would change what users see".to_owned())
        );
        assert_eq!(
            choose(SlotChoice::Green, &seen(&[Side::BLUE])),
            Ok(Some(Place::Slot(Slot::Green)))
        );
    }

    #[test]
    fn a_switch_under_way_leaves_no_idle_slot() {
        let refusal = choose(SlotChoice::Auto, &seen(&[Side::BLUE, Side::GREEN]));
        assert!(matches!(refusal, Err(SlotRefusal::BothLive { .. })));
    }

    #[test]
    fn a_slot_that_was_chosen_once_stays_although_it_is_live_by_now() {
        let known = KnownSides {
            fixed: Some(Side::GREEN),
            ..seen(&[Side::GREEN])
        };
        assert_eq!(
            choose(SlotChoice::Auto, &known),
            Ok(Some(Place::Slot(Slot::Green)))
        );
        assert!(matches!(
            choose(SlotChoice::Blue, &known),
            Err(SlotRefusal::Fixed { .. })
        ));
        assert!(matches!(
            choose(SlotChoice::None, &known),
            Err(SlotRefusal::Fixed { .. })
        ));
    }

    #[test]
    fn record_and_cluster_must_agree() {
        let known = KnownSides {
            recorded: Some(Side::BLUE),
            ..seen(&[Side::GREEN])
        };
        assert_eq!(
            choose(SlotChoice::Auto, &known).map_err(|refusal| refusal.to_string()),
            Err("the record says that side `blue` is live, but live traffic reaches `green` (by service/web)".to_owned())
        );
    }

    #[test]
    fn running_slots_without_front_and_record_are_not_guessed_about() {
        let known = KnownSides {
            are_slots_running: true,
            ..KnownSides::default()
        };
        assert_eq!(choose(SlotChoice::Auto, &known), Err(SlotRefusal::Unknown));
    }

    #[test]
    fn a_canary_stands_beside_a_main_workload_and_beside_no_slot() {
        let canary = |known: &KnownSides| choose(SlotChoice::Canary, known);
        assert_eq!(canary(&seen(&[Side::Unslotted])), Ok(Some(Place::Canary)));
        assert_eq!(canary(&KnownSides::default()), Ok(Some(Place::Canary)));
        let stable = KnownSides {
            recorded: Some(Side::Stable),
            ..KnownSides::default()
        };
        assert_eq!(canary(&stable), Ok(Some(Place::Canary)));
        assert_eq!(
            canary(&seen(&[Side::GREEN])),
            Err(SlotRefusal::NoCanary { slot: Slot::Green })
        );
        let fixed = KnownSides {
            fixed: Some(Side::Canary),
            ..seen(&[Side::Unslotted])
        };
        assert_eq!(canary(&fixed), Ok(Some(Place::Canary)));
        assert!(matches!(
            choose(SlotChoice::Auto, &fixed),
            Err(SlotRefusal::Fixed { .. })
        ));
    }

    #[test]
    fn without_slots_nothing_is_asked() {
        assert_eq!(
            choose(SlotChoice::None, &seen(&[Side::Unslotted])),
            Ok(None)
        );
    }
}
