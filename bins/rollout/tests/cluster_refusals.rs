//! What goes wrong with `rollout apply`, and what it says: nothing is written in any of these.

mod shop;

use shop::Shop;
use switchyard_harness::{expect_code, expect_said};
use switchyard_sandbox::User;

#[tokio::test]
async fn a_foreign_service_that_would_select_the_new_pods_is_refused() {
    let shop = Shop::open("foreign-selector").await;
    shop.namespace
        .apply("apiVersion: v1\nkind: Service\nmetadata: {name: metrics}\nspec: {selector: {app: web}, ports: [{port: 9090}]}\n---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: old}\nspec: {minAvailable: 1, selector: {matchLabels: {app: web}}}\n")
        .expect("applied");
    let manifests = shop.web("v1.0.0") + &shop.traefik();
    let ended = shop.apply(&manifests).input("slot", "blue").run();
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "service/metrics (selector app=web) selects the pods of deployment/web-blue",
            "poddisruptionbudget/old",
            "rollout adopt",
        ],
    );
    assert!(shop.names("deployment").is_empty());
}

#[tokio::test]
async fn every_missing_permission_is_named_in_one_report() {
    let shop = Shop::open("permissions").await;
    let step = shop.step_of(User::Reader, "apply");
    let file = step.file("web.yaml", &shop.web("v1.0.0"));
    let ended = step.input("files", file).input("application", "web").run();
    expect_code(&ended, 3);
    expect_said(
        &ended,
        &[
            "patch deployments.apps",
            "create services",
            "patch configmaps",
            "update leases.coordination.k8s.io",
            "apiGroups",
        ],
    );
    assert!(shop.names("deployment").is_empty());
    shop.namespace
        .kubectl(&["patch", "role", "switchyard-deployer", "--type=json", "-p", "[{\"op\":\"add\",\"path\":\"/rules/0/verbs\",\"value\":[\"get\",\"list\",\"watch\",\"create\",\"update\"]}]"])
        .expect("one verb is taken away");
    let ended = shop.apply(&shop.web("v1.0.0")).run();
    expect_code(&ended, 3);
    expect_said(&ended, &["1 of", "patch deployments.apps"]);
    assert_eq!(shop.names("service"), Vec::<String>::new());
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_refused() {
    let shop = Shop::open("no-namespace").await;
    let ended = shop
        .step_of(User::Admin, "apply")
        .input("namespace", "nowhere-at-all");
    let file = ended.file("web.yaml", &shop.web("v1.0.0"));
    let ended = ended.input("files", file).run();
    expect_code(&ended, 2);
    expect_said(
        &ended,
        &[
            "namespace `nowhere-at-all` does not exist",
            "kubectl create namespace",
        ],
    );
}

/// What Argo CD and Flux put on the objects that they keep, and what is said of it.
const MARKS: [(&str, &str, &str); 4] = [
    (
        "annotate",
        "argocd.argoproj.io/tracking-id=shop:apps/Deployment:prod/web",
        "Argo CD (Application shop)",
    ),
    (
        "label",
        "argocd.argoproj.io/instance=shop",
        "Argo CD (Application shop)",
    ),
    (
        "label",
        "kustomize.toolkit.fluxcd.io/name=shop kustomize.toolkit.fluxcd.io/namespace=flux-system",
        "Flux (Kustomization flux-system/shop)",
    ),
    (
        "label",
        "helm.toolkit.fluxcd.io/name=shop helm.toolkit.fluxcd.io/namespace=apps",
        "Flux (HelmRelease apps/shop)",
    ),
];

#[tokio::test]
async fn an_object_that_argo_cd_or_flux_keeps_is_refused_with_what_to_commit() {
    let shop = Shop::open("gitops").await;
    shop.namespace.apply(&shop.web("v1.0.0")).expect("applied");
    shop.wait_for("web");
    shop.namespace.apply(&shop.web("v1.1.0")).expect("applied");
    shop.wait_for("web");
    let backup = shop
        .step("backup")
        .input("workloads", "deployment/web")
        .run();
    expect_code(&backup, 0);
    let saved = std::fs::read(&backup.outputs["backup"]).expect("saved");
    let digest = format!(
        "sha256:{}",
        switchyard_manifest::config_digest::sha256(&saved)
    );
    let image = shop
        .sandbox
        .image("web", "v1.0.0")
        .replace(":v1.0.0", "=:v1.2.0");
    for (verb, marks, keeper) in MARKS {
        let mark = |suffix: &str| {
            let mut words = vec![verb, "deployment/web"];
            let names: Vec<String> = marks
                .split(' ')
                .map(|mark| match suffix {
                    "" => mark.to_owned(),
                    _ => mark.split('=').next().unwrap_or(mark).to_owned() + suffix,
                })
                .collect();
            words.extend(names.iter().map(String::as_str));
            shop.namespace.kubectl(&words).expect("marked");
        };
        mark("");
        // Its status goes on changing.
        let written = || {
            let live = shop.get("deployment/web");
            (
                live["spec"].clone(),
                live["metadata"]["annotations"].clone(),
            )
        };
        let before = written();
        let refused = format!("deployment/web is kept by {keeper}");
        let apply = shop
            .apply(&shop.web("v1.0.0"))
            .input("images", &image)
            .run();
        expect_code(&apply, 1);
        expect_said(&apply, &[&refused, "commit the images"]);
        let undo = shop
            .step("restore")
            .input("workloads", "deployment/web")
            .run();
        expect_code(&undo, 1);
        expect_said(&undo, &[&refused, "commit the revision before"]);
        let restore = shop
            .step("restore")
            .input("backup-file", &backup.outputs["backup"])
            .input("digest", &digest)
            .run();
        expect_code(&restore, 1);
        expect_said(&restore, &[&refused, "commit the version before"]);
        let scale = shop
            .step("scale")
            .input("workloads", "deployment/web")
            .input("replicas", "3")
            .run();
        expect_code(&scale, 1);
        expect_said(&scale, &[&refused, "commit the size"]);
        assert_eq!(written(), before, "nothing was written");
        mark("-");
    }
    // Flux was told to leave it alone.
    for words in [
        [
            "label",
            "deployment/web",
            "kustomize.toolkit.fluxcd.io/name=shop",
        ],
        [
            "annotate",
            "deployment/web",
            "kustomize.toolkit.fluxcd.io/reconcile=disabled",
        ],
    ] {
        shop.namespace.kubectl(&words).expect("marked");
    }
    let left_alone = shop
        .step("restore")
        .input("workloads", "deployment/web")
        .run();
    expect_code(&left_alone, 0);
}

#[tokio::test]
async fn a_conflict_names_field_and_manager_and_can_be_taken_over() {
    let shop = Shop::open("conflict").await;
    expect_code(&shop.apply(&shop.web("v1.0.0")).run(), 0);
    shop.namespace
        .kubectl(&[
            "patch",
            "deployment/web",
            "--field-manager=somebody-else",
            "--type=merge",
            "-p",
            "{\"spec\":{\"minReadySeconds\":7,\"replicas\":1}}",
        ])
        .expect("patched");
    let ended = shop.apply(&shop.web("v1.1.0")).run();
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "deployment/web: `.spec.replicas` is owned by `somebody-else`",
            "force-conflicts: true",
        ],
    );
    let forced = shop
        .apply(&shop.web("v1.1.0"))
        .input("force-conflicts", "true")
        .run();
    expect_code(&forced, 0);
    expect_said(
        &forced,
        &["`.spec.replicas` is taken over from `somebody-else`"],
    );
    assert_eq!(shop.get("deployment/web")["spec"]["replicas"], 2);
    assert_eq!(shop.get("deployment/web")["spec"]["minReadySeconds"], 7);
}

#[tokio::test]
async fn what_the_api_server_calls_invalid_is_found_before_the_first_write() {
    let shop = Shop::open("invalid").await;
    let bad = shop.web("v1.0.0").replace("replicas: 2", "replicas: two");
    let ended = shop.apply(&bad).run();
    expect_code(&ended, 2);
    assert!(
        shop.names("service").is_empty(),
        "the Service comes before it and was not written"
    );
    let unknown =
        shop.web("v1.0.0") + "---\napiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: a}\n";
    let ended = shop.apply(&unknown).run();
    expect_code(&ended, 2);
    expect_said(&ended, &["Gadget", "example.com/v1"]);
    assert!(shop.names("service").is_empty());
}

#[tokio::test]
async fn a_plan_shows_differences_without_secrets_and_changes_nothing() {
    let shop = Shop::open("plan").await;
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: web}\nstringData: {password: hunter2}\n";
    let manifests = shop.web("v1.0.0") + secret;
    let ended = shop
        .apply(&manifests)
        .input("plan", "true")
        .input("application", "web")
        .run();
    expect_code(&ended, 0);
    expect_said(
        &ended,
        &["+kind: Secret", "(redacted, digest", "nothing was changed"],
    );
    assert_eq!(ended.outputs["changed"], "4");
    assert_eq!(ended.outputs["applied"], "0");
    let said = ended.stdout + &ended.summary;
    assert!(
        !said.contains("hunter2") && !said.contains("aHVudGVyMg"),
        "{said}"
    );
    assert!(shop.names("deployment").is_empty());
    assert_eq!(shop.names("configmap"), ["kube-root-ca.crt"]);
    assert!(shop.names("lease").is_empty());
}

#[tokio::test]
async fn in_place_onto_a_slotted_front_is_refused() {
    let shop = Shop::open("in-place-onto-slots").await;
    let manifests = shop.web("v1.0.0");
    let step = shop
        .apply(&manifests)
        .input("slot", "blue")
        .input("front", "service/web")
        .run();
    expect_code(&step, 0);
    assert_eq!(
        shop.get("service/web")["spec"]["selector"]["switchyard.dev/slot"],
        "blue"
    );
    assert_eq!(shop.names("service"), ["web", "web-blue"]);
    let ended = shop.apply(&manifests).run();
    expect_code(&ended, 1);
    expect_said(
        &ended,
        &[
            "service/web takes part in a blue-green application",
            "slot: auto",
        ],
    );
}
