//! May we do what we are about to do? Asked of the API server before anything is touched.
//! It refuses to know why something is to be done.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};

use crate::{
    connect::Cluster,
    error::{Error, Result},
    operation::{Operation, Verb},
    read::Deadline,
};

/// Reviews under way at the same time.
const CONCURRENCY: usize = 8;

/// One thing a plan needs to be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Verb and object; the resource may carry a `/subresource`.
    pub operation: Operation,
}

impl Permission {
    /// A permission for an operation.
    pub fn to(operation: Operation) -> Self {
        Self { operation }
    }

    fn review(&self) -> SelfSubjectAccessReview {
        let operation = &self.operation;
        let (resource, subresource) = match operation.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (operation.resource.as_str(), None),
        };
        SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(operation.group.clone()),
                    name: operation.name.clone(),
                    namespace: operation.namespace.clone(),
                    resource: Some(resource.to_owned()),
                    subresource: subresource.map(str::to_owned),
                    verb: Some(operation.verb.as_str().to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        }
    }
}

/// What the API server says to a list of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessReport {
    /// Permissions that we lack, in the order they were asked for.
    pub missing: Vec<Permission>,
    /// How many were asked for.
    pub asked: usize,
}

impl AccessReport {
    /// Whether everything is allowed.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// All gaps, one per line: ``patch services `shop/web` ``. Empty when there are none.
    pub fn gaps(&self) -> Vec<String> {
        self.missing
            .iter()
            .map(|gap| gap.operation.to_string())
            .collect()
    }

    /// RBAC rules that would close the gaps, as YAML to paste below `rules:`.
    pub fn rules(&self) -> String {
        let mut rules: Vec<(String, String, Vec<Verb>)> = Vec::new();
        for gap in &self.missing {
            let key = (gap.operation.group.clone(), gap.operation.resource.clone());
            match rules
                .iter_mut()
                .find(|(group, resource, _)| (group, resource) == (&key.0, &key.1))
            {
                Some((_, _, verbs)) if verbs.contains(&gap.operation.verb) => {}
                Some((_, _, verbs)) => verbs.push(gap.operation.verb),
                None => rules.push((key.0, key.1, vec![gap.operation.verb])),
            }
        }
        let lines = rules.iter().map(|(group, resource, verbs)| {
            let verbs: Vec<_> = verbs.iter().map(|verb| verb.as_str()).collect();
            format!(
                "- {{apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [{}]}}\n",
                verbs.join(", ")
            )
        });
        lines.collect()
    }
}

impl Cluster {
    /// Asks for all of `permissions` at once and reports every gap.
    ///
    /// # Errors
    /// When the API server cannot be asked; being denied is not an error here.
    pub async fn review_access(
        &self,
        permissions: &[Permission],
        deadline: Deadline,
    ) -> Result<AccessReport> {
        let reviews = permissions.iter();
        let reviews: Vec<_> = reviews
            .map(|permission| self.is_allowed(permission, deadline))
            .collect();
        let answers: Vec<bool> = stream::iter(reviews)
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let missing = permissions
            .iter()
            .zip(answers)
            .filter(|(_, allowed)| !allowed)
            .map(|(permission, _)| permission.clone())
            .collect();
        Ok(AccessReport {
            missing,
            asked: permissions.len(),
        })
    }

    async fn is_allowed(&self, permission: &Permission, deadline: Deadline) -> Result<bool> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client());
        let review = permission.review();
        // Creating a review changes nothing, so it may be repeated like a read.
        let operation = Operation::on_cluster::<SelfSubjectAccessReview>(Verb::Get);
        let params = PostParams::default();
        let answer = self
            .read(&operation, deadline, || reviews.create(&params, &review))
            .await?;
        match answer.status {
            Some(status) => Ok(status.allowed),
            None => Err(Error::Unreadable {
                what: format!("access review for {}", permission.operation),
                problem: "it has no status".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};

    use super::*;

    #[test]
    fn gaps_become_rules_grouped_by_resource() {
        let report = AccessReport {
            missing: vec![
                Permission::to(Operation::on::<Deployment>(Verb::Get, "shop").named("web")),
                Permission::to(Operation::on::<Deployment>(Verb::Patch, "shop").named("web")),
                Permission::to(Operation::on::<Deployment>(Verb::Get, "shop").named("api")),
                Permission::to(
                    Operation::on::<Pod>(Verb::Create, "shop").subresource("portforward"),
                ),
            ],
            asked: 5,
        };
        assert_eq!(
            report.rules(),
            "- {apiGroups: [\"apps\"], resources: [\"deployments\"], verbs: [get, patch]}\n\
             - {apiGroups: [\"\"], resources: [\"pods/portforward\"], verbs: [create]}\n"
        );
        assert_eq!(report.gaps()[0], "get deployments.apps `shop/web`");
    }

    #[test]
    fn a_subresource_is_asked_for_as_such() {
        let permission =
            Permission::to(Operation::on::<Pod>(Verb::Create, "shop").subresource("portforward"));
        let attributes = permission.review().spec.resource_attributes.unwrap();
        assert_eq!(attributes.resource.as_deref(), Some("pods"));
        assert_eq!(attributes.subresource.as_deref(), Some("portforward"));
    }
}
