//! What the weighted providers share: the arithmetic of weights, and edits of one list.
//! Refuses to know where in an object the list stands.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Goal, Owned, Refusal, members};
use crate::roles::Roles;
use crate::routing::{Entry, Place, Routing, is_share, share_of};
use crate::share::{Percent, divide};

/// The sum of our weights in a list that holds nothing but our sides.
const WHOLE: u32 = 100;

/// The name of the Service of an element when it is one of our sides, else how others call it.
pub(super) enum Backend {
    Ours(String),
    Foreign(String),
}

/// One weighted list of an object: its JSON pointer, key and elements.
pub(super) struct List<'object> {
    pub pointer: String,
    pub key: String,
    pub elements: &'object [Value],
}

/// Where the rules of an object stand, and their lists in them.
pub(super) struct Rules {
    /// JSON pointer of the rules.
    pub pointer: &'static str,
    /// The field of a rule that is its weighted list.
    pub list: &'static str,
    /// The field of a rule that says what it matches.
    pub matches: &'static str,
    /// A condition in words, the same for the same condition.
    pub describe: fn(&Value) -> String,
    /// The key of a rule that has neither a name nor conditions.
    pub anything: &'static str,
}

impl Rules {
    /// The rules of an object.
    pub(super) fn of<'object>(&self, object: &'object Value) -> &'object [Value] {
        elements(object.pointer(self.pointer))
    }

    /// The lists of all rules that have one.
    pub(super) fn lists<'object>(&self, object: &'object Value) -> Vec<List<'object>> {
        let rules = self.of(object).iter().enumerate();
        let lists = rules.filter_map(|(index, rule)| {
            let elements = rule.get(self.list)?.as_array()?;
            Some(List {
                pointer: format!("{}/{index}/{}", self.pointer, self.list),
                key: self.key_of(rule),
                elements,
            })
        });
        lists.collect()
    }

    /// What tells a rule apart wherever it stands: its name, else what it matches.
    fn key_of(&self, rule: &Value) -> String {
        if let Some(name) = rule.get("name").and_then(Value::as_str) {
            return format!("rule {name}");
        }
        let conditions = elements(rule.get(self.matches));
        let texts: Vec<_> = conditions.iter().map(self.describe).collect();
        if texts.is_empty() {
            self.anything.to_owned()
        } else {
            texts.join(" | ")
        }
    }

    /// Operations that turn the lists that `owned` was read from into `after`.
    pub(super) fn edit(
        &self,
        object: &Value,
        owned: &Owned,
        after: &Routing,
        layout: &dyn Layout,
        roles: &Roles,
    ) -> Vec<Value> {
        let keys: BTreeMap<&String, &String> = owned
            .pointers
            .iter()
            .map(|(key, pointer)| (pointer, key))
            .collect();
        let after = places_of(after);
        let mut operations = Vec::new();
        for list in self.lists(object) {
            // A rule that is not in `after` is one that somebody added meanwhile: not ours to empty.
            let wanted = keys.get(&list.pointer).and_then(|key| after.get(*key));
            if let Some(wanted) = wanted {
                operations.extend(edit(&list, wanted, layout, roles));
            }
        }
        operations
    }
}

/// The elements of a list; none where there is no list.
pub(super) fn elements(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// How a provider tells one element's owner and its fields apart.
pub(super) trait Layout {
    /// Whose element it is.
    fn backend(&self, element: &Value, roles: &Roles) -> Backend;
    /// Fields that say which object is meant, and its weight: everything else is copied.
    fn identity_fields(&self) -> &'static [&'static str];

    /// What the weight of an element means in a list of so many, as it is written there.
    fn weight(&self, written: Option<u32>, _listed: usize) -> u32 {
        written.unwrap_or(1)
    }

    /// The port of an element, as written.
    fn port(&self, element: &Value) -> Value {
        element.get("port").cloned().unwrap_or(Value::Null)
    }

    /// Writes which Service is meant, and its port, into an element. `model` is another element of
    /// ours in the list, or the element itself as it was.
    fn point(
        &self,
        element: &mut Map<String, Value>,
        service: &str,
        port: &Value,
        model: Option<&Value>,
    ) {
        let fields = self.identity_fields().iter();
        let known =
            model.filter(|model| model.get("name").and_then(Value::as_str) == Some(service));
        for (field, value) in
            fields.filter_map(|field| known.and_then(|known| Some((*field, known.get(*field)?))))
        {
            element.insert(field.to_owned(), value.clone());
        }
        element.insert("name".to_owned(), Value::from(service));
        if !port.is_null() {
            element.insert("port".to_owned(), port.clone());
        }
    }
}

/// Reads the lists that send at least some of their traffic to our sides. One in which they get
/// nothing beside others has no share of ours that could be divided.
pub(super) fn read(
    lists: Vec<List<'_>>,
    layout: &dyn Layout,
    roles: &Roles,
    object: &str,
) -> Result<Owned, Refusal> {
    let mut owned = Owned {
        routing: Routing::Backends {
            places: BTreeMap::new(),
        },
        pointers: BTreeMap::new(),
        foreign: BTreeMap::new(),
        shares_unverifiable: None,
    };
    let mut places = BTreeMap::new();
    for list in lists {
        let mut place = Place::new();
        let mut foreign = Vec::new();
        for element in list.elements {
            match layout.backend(element, roles) {
                Backend::Foreign(name) => foreign.push(name),
                Backend::Ours(service) => {
                    let entry = entry_of(element, list.elements.len(), layout);
                    if place.insert(service.clone(), entry).is_some() {
                        return Err(Refusal::Unsuitable {
                            object: object.to_owned(),
                            problem: format!("lists `{service}` twice in {}", list.key),
                            hint: "leave one entry for each Service".to_owned(),
                        });
                    }
                }
            }
        }
        if place.values().all(|entry| entry.weight == 0) {
            continue;
        }
        let key = unique(&places, list.key);
        owned.pointers.insert(key.clone(), list.pointer);
        owned.foreign.insert(key.clone(), foreign);
        places.insert(key, place);
    }
    owned.routing = Routing::Backends { places };
    Ok(owned)
}

/// Two rules that match alike are told apart by their order.
fn unique(places: &BTreeMap<String, Place>, key: String) -> String {
    if !places.contains_key(&key) {
        return key;
    }
    let numbered = (2..).map(|number| format!("{key} #{number}"));
    numbered
        .into_iter()
        .find(|candidate| !places.contains_key(candidate))
        .unwrap_or(key)
}

fn entry_of(element: &Value, listed: usize, layout: &dyn Layout) -> Entry {
    let mut rest = members(element);
    let weight = rest
        .get("weight")
        .and_then(Value::as_u64)
        .and_then(|weight| u32::try_from(weight).ok());
    for field in layout.identity_fields().iter().chain(&["weight", "port"]) {
        rest.shift_remove(*field);
    }
    Entry {
        weight: layout.weight(weight, listed),
        port: layout.port(element),
        rest,
    }
}

/// What the lists hold once `goal` is reached.
pub(super) fn aim(
    owned: &Owned,
    goal: &Goal,
    roles: &Roles,
    object: &str,
) -> Result<Routing, Refusal> {
    let places = places_of(&owned.routing);
    let aimed = match goal {
        Goal::Restore(prior) => return Ok(prior.clone()),
        Goal::Return(prior) => returned(places, prior, roles),
        Goal::Prepare | Goal::Share(_) | Goal::Settle(_) => {
            require_traffic(places, roles, object)?;
            let mut aimed = BTreeMap::new();
            for (key, place) in places {
                let is_shared = owned
                    .foreign
                    .get(key)
                    .is_some_and(|foreign| !foreign.is_empty());
                let context = PlaceContext {
                    key,
                    is_shared,
                    roles,
                    object,
                };
                aimed.insert(key.clone(), context.aim(place, goal)?);
            }
            aimed
        }
    };
    Ok(Routing::Backends { places: aimed })
}

fn require_traffic(
    places: &BTreeMap<String, Place>,
    roles: &Roles,
    object: &str,
) -> Result<(), Refusal> {
    let has_traffic = places
        .values()
        .any(|place| place.values().any(|entry| entry.weight > 0));
    if has_traffic {
        return Ok(());
    }
    Err(Refusal::NothingOwned {
        object: object.to_owned(),
        giving: roles.giving.service.clone(),
        taking: roles.taking.service.clone(),
    })
}

struct PlaceContext<'plan> {
    key: &'plan str,
    is_shared: bool,
    roles: &'plan Roles,
    object: &'plan str,
}

impl PlaceContext<'_> {
    fn aim(&self, place: &Place, goal: &Goal) -> Result<Place, Refusal> {
        let (taking, giving) = (&self.roles.taking.service, &self.roles.giving.service);
        for (service, entry) in place {
            if service != taking && service != giving && entry.weight > 0 {
                return Err(Refusal::ThirdSide {
                    object: self.object.to_owned(),
                    service: service.clone(),
                });
            }
        }
        match goal {
            Goal::Prepare => self.prepared(place),
            Goal::Share(share) => self.shared(place, *share),
            Goal::Settle(share) => {
                let mut settled = self.shared(place, *share)?;
                settled.retain(|_, entry| entry.weight > 0);
                Ok(settled)
            }
            // Handled for all places at once.
            Goal::Return(_) | Goal::Restore(_) => Ok(place.clone()),
        }
    }

    /// The present shares with explicit weights, and the taking side listed.
    fn prepared(&self, place: &Place) -> Result<Place, Refusal> {
        let share = share_of(place, &self.roles.taking.service).unwrap_or(0.0);
        if place.contains_key(&self.roles.taking.service) {
            return Ok(place.clone());
        }
        if is_share(share, Percent::NONE) {
            return self.shared(place, Percent::NONE);
        }
        Ok(place.clone())
    }

    fn shared(&self, place: &Place, share: Percent) -> Result<Place, Refusal> {
        let (taking, giving) = (&self.roles.taking.service, &self.roles.giving.service);
        let sum: u32 = [taking, giving]
            .iter()
            .filter_map(|service| place.get(*service))
            .map(|entry| entry.weight)
            .sum();
        let whole = if self.is_shared { sum } else { WHOLE };
        let (taken, given) = divide(whole, share).ok_or_else(|| Refusal::NotDivisible {
            object: self.object.to_owned(),
            place: self.key.to_owned(),
            whole,
            asked: share,
        })?;
        let mut shared = place.clone();
        shared.insert(taking.clone(), self.entry(place, taking, giving, taken));
        // A side that was dropped when it had nothing stays out until it is to get something.
        if given > 0 || place.contains_key(giving) {
            shared.insert(giving.clone(), self.entry(place, giving, taking, given));
        }
        Ok(shared)
    }

    /// The entry of `service` as it is, or one that is made after the other side's.
    fn entry(&self, place: &Place, service: &str, model: &str, weight: u32) -> Entry {
        let known = place.get(service).cloned();
        let mut entry = known.unwrap_or_else(|| {
            let model = place.get(model).cloned();
            let mut made = model.unwrap_or(Entry {
                weight,
                port: Value::Null,
                rest: Map::new(),
            });
            if let Some(port) = self.roles.port {
                made.port = Value::from(port);
            }
            made
        });
        entry.weight = weight;
        entry
    }
}

/// The state before the deployment, with the giving side at weight 0 wherever it is still listed.
fn returned(
    places: &BTreeMap<String, Place>,
    prior: &Routing,
    roles: &Roles,
) -> BTreeMap<String, Place> {
    let mut aimed = places_of(prior).clone();
    for (key, place) in &mut aimed {
        let live = places
            .get(key)
            .and_then(|live| live.get(&roles.giving.service));
        if let (Some(live), false) = (live, place.contains_key(&roles.giving.service)) {
            place.insert(
                roles.giving.service.clone(),
                Entry {
                    weight: 0,
                    ..live.clone()
                },
            );
        }
    }
    aimed
}

/// Whether every list that is to change already holds the taking side.
pub(super) fn is_prepared(owned: &Owned, roles: &Roles) -> bool {
    places_of(&owned.routing)
        .values()
        .all(|place| place.contains_key(&roles.taking.service))
}

/// The share of each side's Service, per place.
pub(super) fn shares(routing: &Routing) -> BTreeMap<String, BTreeMap<String, f64>> {
    let share_in = |place: &Place| {
        let service_share =
            |service: &String| (service.clone(), share_of(place, service).unwrap_or(0.0));
        place.keys().map(service_share).collect()
    };
    places_of(routing)
        .iter()
        .map(|(key, place)| (key.clone(), share_in(place)))
        .collect()
}

pub(super) fn places_of(routing: &Routing) -> &BTreeMap<String, Place> {
    static NONE: BTreeMap<String, Place> = BTreeMap::new();
    match routing {
        Routing::Backends { places } => places,
        Routing::Selector { .. } => &NONE,
    }
}

/// Operations that turn the owned elements of one list into `after`.
pub(super) fn edit(
    list: &List<'_>,
    after: &Place,
    layout: &dyn Layout,
    roles: &Roles,
) -> Vec<Value> {
    let (mut tests, mut changes, mut removals, mut additions) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut listed = Vec::new();
    let mut model = None;
    for (index, element) in list.elements.iter().enumerate() {
        let Backend::Ours(service) = layout.backend(element, roles) else {
            continue;
        };
        let path = format!("{}/{index}", list.pointer);
        tests.push(json!({"op": "test", "path": path, "value": element}));
        match after.get(&service) {
            None => removals.push(json!({"op": "remove", "path": path})),
            Some(entry) => {
                let current = entry_of(element, list.elements.len(), layout);
                changes.extend(change(&path, element, &current, entry, &service, layout));
            }
        }
        model = model.or(Some(element));
        listed.push(service);
    }
    for (service, entry) in after
        .iter()
        .filter(|(service, _)| !listed.contains(service))
    {
        let path = format!("{}/-", list.pointer);
        let value = element_of(service, entry, model, layout);
        additions.push(json!({"op": "add", "path": path, "value": value}));
    }
    // From the end, so that the indices of the elements before stay true.
    removals.reverse();
    [tests, changes, removals, additions].concat()
}

/// A weight is always spelled out: what an unset one means may hang on how many others are listed.
fn change(
    path: &str,
    element: &Value,
    current: &Entry,
    entry: &Entry,
    service: &str,
    layout: &dyn Layout,
) -> Option<Value> {
    if current.port != entry.port || current.rest != entry.rest {
        let value = element_of(service, entry, Some(element), layout);
        return Some(json!({"op": "replace", "path": path, "value": value}));
    }
    let written = element.get("weight").and_then(Value::as_u64);
    (written != Some(u64::from(entry.weight)))
        .then(|| json!({"op": "add", "path": format!("{path}/weight"), "value": entry.weight}))
}

fn element_of(service: &str, entry: &Entry, model: Option<&Value>, layout: &dyn Layout) -> Value {
    let mut element = Map::new();
    layout.point(&mut element, service, &entry.port, model);
    element.extend(entry.rest.clone());
    element.insert("weight".to_owned(), Value::from(entry.weight));
    Value::Object(element)
}
