//! Proof that pinning lost nothing: the same pods behind every Service, before and after.

use std::collections::{BTreeMap, BTreeSet};

use switchyard_deployment::cluster_failure;
use switchyard_manifest::{LabelSelector, names, pods};
use switchyard_runner::{Failure, Kind as FailureKind};

use super::Adopting;
use super::pins::{Pin, Selecting};
use crate::plan::traffic::name_of;
use crate::survey::{Survey, text};

impl Adopting<'_> {
    /// UIDs of the pods behind every pinned Service.
    pub(super) async fn endpoints(
        &self,
        pins: &[Pin],
    ) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
        let mut found = BTreeMap::new();
        for pin in pins.iter().filter(|pin| pin.kind == Selecting::Service) {
            let name = &pin.identity.name;
            let slices = self
                .opened
                .cluster()
                .endpoint_slices(name, self.opened.deadline)
                .await
                .map_err(cluster_failure)?;
            let uids = switchyard_cluster::endpoints::addresses(&slices)
                .into_iter()
                .filter_map(|address| address.pod_uid)
                .collect();
            found.insert(name.clone(), uids);
        }
        Ok(found)
    }

    /// Nothing may have been lost: every pinned Service selects exactly the pods that it selected, and
    /// its endpoints have not become fewer.
    pub(super) async fn verify(
        &self,
        pins: &[Pin],
        before: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<(), Failure> {
        let pods = self
            .opened
            .objects
            .list_if_served("", "v1", "Pod")
            .await
            .map_err(cluster_failure)?;
        let survey = Survey::read(&self.opened.objects).await?;
        let after = self.endpoints(pins).await?;
        for pin in pins.iter().filter(|pin| pin.kind == Selecting::Service) {
            let name = &pin.identity.name;
            let service = survey
                .selectors
                .services
                .iter()
                .find(|service| name_of(service) == name);
            let selector = service.and_then(LabelSelector::of_service);
            let selected: BTreeSet<String> = pods
                .iter()
                .filter(|pod| {
                    let labels = pod.pointer("/metadata/labels").map(pods::text_map);
                    selector
                        .as_ref()
                        .is_some_and(|selector| selector.matches(&labels.unwrap_or_default()))
                })
                .filter_map(|pod| text(pod, "/metadata/uid"))
                .collect();
            let had = before.get(name).cloned().unwrap_or_default();
            let has = after.get(name).cloned().unwrap_or_default();
            let alive: BTreeSet<String> = pods
                .iter()
                .filter_map(|pod| text(pod, "/metadata/uid"))
                .collect();
            let lost: Vec<&String> = had
                .iter()
                .filter(|uid| alive.contains(*uid))
                .filter(|uid| !selected.contains(*uid) || !has.contains(*uid))
                .collect();
            if !lost.is_empty() {
                return Err(Failure::message(
                    FailureKind::Gate,
                    format!(
                        "service/{name} lost {} of its {} endpoints when it was pinned",
                        lost.len(),
                        had.len()
                    ),
                )
                .hint(format!(
                    "take the label `{}` out of its selector again",
                    names::POD_TEMPLATE_HASH
                )));
            }
            self.context.console.info(format!(
                "service/{name}: {} endpoints before, {} after",
                had.len(),
                has.len()
            ));
        }
        Ok(())
    }
}
