//! The consumer's workflows under act, on the sandbox, with load through Traefik.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on panics"
)]

#[path = "../../../bins/traffic-switch/tests/servers/rig.rs"]
mod rig;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use switchyard_e2e::{Consumer, Death, Ended, Logins, Project, Settings};
use switchyard_harness::CommandLines;
use switchyard_sandbox::load::{KeepAlive, LoadPlan, LoadReport, RunningLoad};
use switchyard_sandbox::standins::{Slack, StandIn};
use switchyard_sandbox::{Sandbox, TestNamespace, User};
use switchyard_test_postgres::{PASSWORD, Prisma, Server, tool};
use tempfile::TempDir;

const OLD: &str = "v1.0.0";
const NEW: &str = "v1.1.0";

/// The project, laid out once for all tests: the last commit and freshly built programs.
fn project() -> &'static Project {
    static PROJECT: OnceLock<(Project, TempDir)> = OnceLock::new();
    let (project, _) = PROJECT.get_or_init(|| {
        let programs = built_programs();
        let folder = TempDir::with_prefix("switchyard-project").unwrap();
        let composite_step = Path::new(env!("CARGO_BIN_EXE_composite-step"));
        let project = Project::lay_out(folder.path(), &programs, composite_step).unwrap();
        (project, folder)
    });
    project
}

/// The programs of `SWITCHYARD_PROGRAMS`, a folder; else they are built beside this test, so that none is
/// stale. Offline: the cluster's network has no registry.
fn built_programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("SWITCHYARD_PROGRAMS") {
        return folder.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--locked", "--quiet", "--bins"]);
    for entry in std::fs::read_dir(root.join("bins")).unwrap() {
        cargo.arg("-p").arg(entry.unwrap().file_name());
    }
    let status = cargo.current_dir(root).status().unwrap();
    assert!(status.success(), "the programs do not build: {status}");
    let step = Path::new(env!("CARGO_BIN_EXE_composite-step"));
    step.parent().unwrap().to_owned()
}

/// The demo application, beside the programs of this test.
fn application() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_composite-step")).with_file_name("api");
    assert!(
        program.exists(),
        "the demo application is not built: run `cargo build -p switchyard-apps`"
    );
    program
}

/// How the consumer's workflows come to the cluster.
#[derive(Debug, Clone, Copy)]
enum Access {
    /// Each in its own way: by AKS, EKS, and the cluster itself.
    Login,
    StoredKubeconfig,
}

/// The workflow of the consumer that deploys through a canary.
const CANARY: &str = ".github/workflows/canary.yml";

/// A consumer with a namespace, a host and load of its own.
struct Shop {
    sandbox: Sandbox,
    namespace: TestNamespace,
    host: String,
    slack: StandIn<Slack>,
    /// `None` where the workflows are given a stored kubeconfig.
    logins: Option<Logins>,
    consumer: Consumer,
    _folder: TempDir,
}

impl Shop {
    async fn open(prefix: &str) -> Self {
        Self::opened(prefix, Access::Login).await
    }

    async fn opened(prefix: &str, access: Access) -> Self {
        Self::filled_in(prefix, access, |_| {}).await
    }

    /// A shop whose developers fill in more than most.
    async fn filled_in(prefix: &str, access: Access, fill_in: impl FnOnce(&mut Settings)) -> Self {
        let sandbox = Sandbox::shared();
        let namespace = sandbox.namespace(prefix).await;
        let host = format!("{}.example.com", namespace.name());
        let mut folder = TempDir::with_prefix("switchyard-shop").unwrap();
        folder.disable_cleanup(std::env::var_os(switchyard_sandbox::KEEP_VARIABLE).is_some());
        let slack = StandIn::start(Slack::default()).unwrap();
        let logins = match access {
            Access::Login => Some(Logins::start(&sandbox, &namespace).unwrap()),
            Access::StoredKubeconfig => None,
        };
        let (name, logs_in) = (namespace.name(), logins.as_ref());
        let mut settings = Settings::for_sandbox(&sandbox, name, &host, &slack, logs_in);
        fill_in(&mut settings);
        let consumer = Consumer::check_out(folder.path(), project(), settings).unwrap();
        Self {
            sandbox,
            namespace,
            host,
            slack,
            logins,
            consumer,
            _folder: folder,
        }
    }

    fn logins(&self) -> &Logins {
        self.logins.as_ref().expect("this shop logs in")
    }

    fn registry(&self) -> String {
        let image = self.sandbox.image("web", OLD);
        image.split('/').next().unwrap().to_owned()
    }

    fn release(&self, version: &str) -> Ended {
        let run = self
            .consumer
            .workflow("release.yml")
            .input("version", version);
        run.wait().unwrap()
    }

    fn load(&self, path: &str, keep_alive: KeepAlive) -> RunningLoad {
        let url = format!("{}{path}", self.sandbox.front_door());
        let plan = LoadPlan::new(&url, 40).unwrap().host(&self.host).unwrap();
        plan.keep_alive(keep_alive).start()
    }

    /// Users of both parts, some of whom keep their connections.
    fn loads(&self) -> [RunningLoad; 2] {
        [
            self.load("/", KeepAlive::On),
            self.load("/api", KeepAlive::Off),
        ]
    }

    /// Fails unless users of both parts see this version alone.
    async fn assert_live(&self, version: &str) {
        assert_eq!(self.live("/").await, version);
        assert_eq!(self.live("/api").await, version);
    }

    /// The version that users see, asked of the front door.
    async fn live(&self, path: &str) -> String {
        let report = LoadPlan::new(&format!("{}{path}", self.sandbox.front_door()), 20)
            .unwrap()
            .host(&self.host)
            .unwrap()
            .run_for(Duration::from_secs(1))
            .await
            .unwrap();
        assert_eq!(report.lost, 0, "{}", report.summary());
        report
            .by_version
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(" and ")
    }

    /// What Slack was told, oldest first.
    fn told(&self) -> Vec<String> {
        let messages = self.slack.service().messages();
        messages.into_iter().map(|message| message.text).collect()
    }

    /// Lets the release workflow tell by the shop's Slack bot, whose messages can be edited.
    fn tells_by_bot(&self) {
        let workflow = ".github/workflows/release.yml";
        let channels = format!(
            "channels: summary, slack\n      slack-channel: deploys\n      slack-api-url: {}/api",
            self.slack.base_url()
        );
        let secret = "slack-webhook-url: ${{ secrets.SLACK_WEBHOOK_URL }}";
        let token = "slack-token: ${{ secrets.SLACK_TOKEN }}";
        for (from, to) in [
            ("channels: summary, slack-webhook", channels.as_str()),
            (secret, token),
        ] {
            self.consumer.change(workflow, from, to).unwrap();
        }
    }

    /// The summaries of all steps of all runs so far.
    fn summary(&self) -> String {
        std::fs::read_to_string(self.consumer.summary()).unwrap()
    }

    /// Waits until users see a version, while a route is new.
    async fn becomes(&self, path: &str, version: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let url = format!("{}{path}", self.sandbox.front_door());
            let plan = LoadPlan::new(&url, 10).unwrap().host(&self.host).unwrap();
            let report = plan.run_for(Duration::from_millis(500)).await.unwrap();
            if report.lost == 0 && report.by_version.keys().eq([version]) {
                return;
            }
            assert!(Instant::now() < deadline, "{}", report.summary());
        }
    }

    /// Lets the canary have half of the traffic at once, and be watched that long.
    fn has_one_stage_of_half(&self, watch: &str) {
        let shown = std::fs::read_to_string(self.consumer.checkout().join(CANARY)).unwrap();
        let mut lines = shown.lines();
        let line = lines.find(|line| line.contains("stages: '")).unwrap();
        let stages = format!("stages: '[{{\"pods\": 1, \"weight\": 50, \"watch\": \"{watch}\"}}]'");
        self.consumer.change(CANARY, line.trim(), &stages).unwrap();
    }

    /// The token in the deployer's kubeconfig.
    fn deployer_token(&self) -> String {
        let text = std::fs::read_to_string(self.sandbox.kubeconfig(User::Deployer)).unwrap();
        let (_, rest) = text.split_once("\"token\": \"").expect("a token");
        rest.split('"').next().unwrap().to_owned()
    }

    /// Fails when something that a login was given stands in a log or a summary.
    fn assert_no_secret_in(&self, runs: &[&Ended]) {
        let summary = self.summary();
        let secrets = self.logins().secrets();
        // Two of each job that logged in, and what the jobs ask with.
        assert!(secrets.len() > 2 * runs.len(), "{}", secrets.len());
        for secret in secrets {
            assert!(!summary.contains(&secret), "a secret in the summary");
            for ended in runs {
                assert!(!ended.log.contains(&secret), "a secret in the log");
            }
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.namespace.kubectl(arguments).unwrap()
    }

    /// The phase of the newest record of a deployment.
    fn phase(&self) -> String {
        let names = self.kubectl(&[
            "get",
            "configmaps",
            "-o",
            "name",
            "--sort-by=.metadata.creationTimestamp",
        ]);
        let newest = names
            .lines()
            .rfind(|name| name.contains("/switchyard.shop."));
        let record = self.kubectl(&["get", newest.expect("a record"), "-o", "jsonpath={.data}"]);
        let start =
            record.find("\\\"phase\\\":\\\"").expect("a phase") + "\\\"phase\\\":\\\"".len();
        record[start..].split('\\').next().unwrap().to_owned()
    }
}

#[track_caller]
fn assert_succeeded(ended: &Ended) {
    assert!(ended.status.success(), "{}", ended.log);
}

#[track_caller]
fn assert_failed(ended: &Ended) {
    assert!(!ended.status.success(), "{}", ended.log);
}

#[track_caller]
fn assert_nothing_lost(reports: &[LoadReport]) {
    for report in reports {
        assert_eq!(report.lost, 0, "{}", report.summary());
    }
}

async fn stop(loads: [RunningLoad; 2]) -> [LoadReport; 2] {
    let [first, second] = loads;
    [first.stop().await.unwrap(), second.stop().await.unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_moves_all_traffic_and_a_rollback_brings_it_back_without_a_lost_request() {
    let shop = Shop::open("e2e-chain").await;
    let watch = CommandLines::watch();
    let first = shop.release(OLD);
    assert_succeeded(&first);
    assert!(first.log.contains(shop.logins().object()), "{}", first.log);
    assert_eq!(shop.live("/").await, OLD);
    let loads = shop.loads();

    let second = shop.release(NEW);
    assert_succeeded(&second);
    shop.assert_live(NEW).await;
    assert_eq!(shop.phase(), "succeeded");

    let back = shop.consumer.workflow("rollback.yml").wait().unwrap();
    assert_succeeded(&back);
    shop.assert_live(OLD).await;

    let reports = stop(loads).await;
    assert_nothing_lost(&reports);
    for report in &reports {
        assert!(
            report.by_version[OLD] > 0 && report.by_version[NEW] > 0,
            "{}",
            report.summary()
        );
    }
    let told = shop.told();
    assert_eq!(
        told,
        [
            "🚀 Deploying shop v1.0.0 to production",
            "✅ Deployed shop v1.0.0 to production",
            "🚀 Deploying shop v1.1.0 to production",
            "✅ Deployed shop v1.1.0 to production",
            "↩️ Deployment of shop to production was rolled back",
        ]
    );
    let summary = shop.summary();
    assert!(summary.contains("gantt"), "{summary}");
    let backups = shop.consumer.artifacts().read_dir().unwrap();
    assert_eq!(
        backups.count(),
        1,
        "the first deployment had nothing to back up"
    );
    // act masks secrets in its log; the summary shows what our programs wrote.
    assert!(
        !summary.contains(shop.slack.service().webhook_path),
        "{summary}"
    );
    assert!(!summary.contains(&shop.deployer_token()), "{summary}");
    shop.assert_no_secret_in(&[&first, &second, &back]);
    let mut secrets = shop.logins().secrets();
    secrets.push(shop.slack.service().webhook_path.to_owned());
    secrets.push(shop.deployer_token());
    watch.end(&["act workflow_dispatch"], &secrets);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_re_run_of_an_ended_release_changes_nothing() {
    let shop = Shop::open("e2e-again").await;
    let first = shop.consumer.workflow("release.yml").input("version", OLD);
    let run_id = first.run_id().to_owned();
    assert_succeeded(&first.wait().unwrap());
    let generation = || {
        shop.kubectl(&[
            "get",
            "deployments,traefikservices",
            "-o",
            "jsonpath={.items[*].metadata.resourceVersion}",
        ])
    };
    let before = generation();
    let again = shop
        .consumer
        .workflow("release.yml")
        .input("version", NEW)
        .again(&run_id);
    let ended = again.wait().unwrap();
    assert_failed(&ended);
    assert!(ended.log.contains("of this run has ended"), "{}", ended.log);
    assert_eq!(generation(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_shop_without_slots_becomes_the_old_side_behind_its_own_services() {
    let shop = Shop::open("e2e-adopt").await;
    for file in [
        "deploy/api.yaml",
        "deploy/web.yaml",
        "deploy-services/routes.yaml",
    ] {
        let text = std::fs::read_to_string(shop.consumer.checkout().join(file)).unwrap();
        let with_tag = text.lines().map(|line| {
            let tag = if line.trim_start().starts_with("image: ") {
                OLD
            } else {
                ""
            };
            let separator = if tag.is_empty() { "" } else { ":" };
            format!("{line}{separator}{tag}\n")
        });
        shop.namespace.apply(&with_tag.collect::<String>()).unwrap();
    }
    for deployment in ["deployment/api", "deployment/web"] {
        shop.kubectl(&["rollout", "status", deployment, "--timeout=60s"]);
    }
    shop.becomes("/", OLD).await;
    shop.becomes("/api", OLD).await;
    let loads = shop.loads();
    let release = |version: &str, adopt: &str| {
        let run = shop.consumer.workflow("release-services.yml");
        run.input("version", version)
            .input("adopt", adopt)
            .wait()
            .unwrap()
    };
    let adopted = release(NEW, "true");
    assert_succeeded(&adopted);
    // The session of a role of AWS, which EKS's cluster lets in.
    let who = format!("assumed-role/{}/switchyard-", shop.logins().role());
    assert!(adopted.log.contains(&who), "{}", adopted.log);
    shop.assert_live(NEW).await;
    let next = release("v1.2.0", "false");
    assert_succeeded(&next);
    shop.assert_no_secret_in(&[&adopted, &next]);
    assert_eq!(shop.live("/").await, "v1.2.0");
    assert_eq!(shop.live("/api").await, "v1.2.0");
    assert_nothing_lost(&stop(loads).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_its_tests_gets_no_traffic() {
    let shop = Shop::open("e2e-tests").await;
    assert_succeeded(&shop.release(OLD));
    shop.consumer
        .change(
            "scripts/smoke-test.sh",
            "set -euo pipefail",
            "set -euo pipefail\necho the till is broken\nexit 1",
        )
        .unwrap();
    let loads = shop.loads();
    let ended = shop.release(NEW);
    assert_failed(&ended);
    assert!(ended.log.contains("the till is broken"), "{}", ended.log);
    let reports = stop(loads).await;
    assert_nothing_lost(&reports);
    for report in &reports {
        assert_eq!(report.by_version.keys().collect::<Vec<_>>(), [OLD]);
    }
    assert_eq!(shop.phase(), "abandoned");
    let summary = shop.summary();
    assert!(
        summary.contains("Deployment of shop v1.1.0 to production failed"),
        "{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_start_is_abandoned_and_named() {
    let shop = Shop::open("e2e-crash").await;
    assert_succeeded(&shop.release(OLD));
    let ended = shop.release("crashing");
    assert_failed(&ended);
    assert!(
        ended.log.contains("last exit: Error, code 1"),
        "{}",
        ended.log
    );
    assert_eq!(shop.live("/").await, OLD);
    assert_eq!(shop.phase(), "abandoned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_answers_with_errors_loses_its_traffic_again() {
    let shop = Shop::open("e2e-errors").await;
    assert_succeeded(&shop.release(OLD));
    let workflow = ".github/workflows/release.yml";
    let tag = "=:${{ inputs.version }}";
    shop.consumer.change(workflow, tag, "=:failing").unwrap();
    let ended = shop.release(NEW);
    assert_failed(&ended);
    assert_eq!(shop.phase(), "rolled_back");
    shop.assert_live(OLD).await;
    let told = shop.told();
    assert_eq!(
        told.last().unwrap(),
        "↩️ Deployment of shop v1.1.0 to production was rolled back"
    );
    // The next, good version is not held up by it.
    shop.consumer.change(workflow, "=:failing", tag).unwrap();
    assert_succeeded(&shop.release(NEW));
    assert_eq!(shop.live("/").await, NEW);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deployment_that_errs_is_left_to_a_person_who_orders_another() {
    let shop = Shop::open("e2e-first").await;
    let workflow = ".github/workflows/release.yml";
    let tag = "=:${{ inputs.version }}";
    shop.consumer.change(workflow, tag, "=:failing").unwrap();
    let ended = shop.release(NEW);
    assert_failed(&ended);
    let log = ended.job("Deploy");
    assert!(
        log.contains("no other side was there to go back to"),
        "{log}"
    );
    assert_eq!(shop.phase(), "needs_person");
    shop.consumer.change(workflow, "=:failing", tag).unwrap();
    let held_up = shop.release(NEW);
    assert_failed(&held_up);
    assert!(held_up.log.contains("new-deployment"), "{}", held_up.log);
    let ordered = shop.consumer.workflow("release.yml").input("version", NEW);
    assert_succeeded(&ordered.input("new-deployment", "true").wait().unwrap());
    assert_eq!(shop.live("/").await, NEW);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_dies_in_mid_switch_is_rescued_by_the_next_job() {
    let shop = Shop::open("e2e-death").await;
    shop.tells_by_bot();
    assert_succeeded(&shop.release(OLD));
    let loads = shop.loads();
    let run = shop
        .consumer
        .workflow("release.yml")
        .input("version", NEW)
        .dies(Death {
            job: "deploy".into(),
            program: "traffic-switch".into(),
            command: "switch".into(),
            point: "mutation:1".into(),
        });
    let ended = run.wait().unwrap();
    assert_failed(&ended);
    let reports = stop(loads).await;
    assert_nothing_lost(&reports);
    shop.assert_live(OLD).await;
    assert_eq!(shop.phase(), "rolled_back");
    // Each deployment has one message, brought up to date, and a reply for those who must notice.
    let messages = shop.slack.service().messages();
    let told: Vec<_> = messages
        .iter()
        .map(|message| {
            (
                message.text.as_str(),
                message.edits,
                message.thread_ts.is_some(),
            )
        })
        .collect();
    let rolled_back = "↩️ Deployment of shop v1.1.0 to production was rolled back";
    assert_eq!(
        told,
        [
            ("✅ Deployed shop v1.0.0 to production", 1, false),
            (rolled_back, 1, false),
            (rolled_back, 0, true),
        ]
    );
    let summary = shop.summary();
    assert!(summary.contains("rolled back"), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_without_a_credential_of_its_own_says_which_one_is_missing() {
    let shop = Shop::open("e2e-subject").await;
    assert_succeeded(&shop.release(OLD));
    shop.logins().forget_rescue();
    let run = shop.consumer.workflow("release.yml").input("version", NEW);
    let ended = run.dies(Death {
        job: "deploy".into(),
        program: "traffic-switch".into(),
        command: "switch".into(),
        point: "mutation:1".into(),
    });
    let ended = ended.wait().unwrap();
    assert_failed(&ended);
    let rescue = ended.job("Rescue");
    for words in [
        "AADSTS700213",
        "repo:acme/shop:environment:production-rollback",
    ] {
        assert!(rescue.contains(words), "{words}: {rescue}");
    }
    shop.assert_no_secret_in(&[&ended]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_dies_while_the_old_side_is_scaled_down_costs_the_new_one_no_traffic() {
    let shop = Shop::open("e2e-retire").await;
    assert_succeeded(&shop.release(OLD));
    let run = shop.consumer.workflow("release.yml").input("version", NEW);
    let ended = run.dies(Death {
        job: "deploy".into(),
        program: "rollout".into(),
        command: "scale".into(),
        point: "phase:quieting".into(),
    });
    let ended = ended.wait().unwrap();
    assert_failed(&ended);
    let rescue = ended.job("Rescue");
    assert!(rescue.contains("nothing is taken back"), "{rescue}");
    assert_eq!(shop.live("/").await, NEW);
    assert_eq!(shop.phase(), "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_takes_shares_then_all_and_its_main_workload_ends_with_the_traffic() {
    let shop = Shop::open("e2e-canary").await;
    let in_place = shop.consumer.workflow("dev.yml").input("version", OLD);
    assert_succeeded(&in_place.wait().unwrap());
    shop.becomes("/", OLD).await;
    let loads = shop.loads();
    let ended = shop.consumer.workflow("canary.yml").input("version", NEW);
    let ended = ended.wait().unwrap();
    assert_succeeded(&ended);
    assert_nothing_lost(&stop(loads).await);
    shop.assert_live(NEW).await;
    assert_eq!(shop.phase(), "succeeded");
    let workloads = shop.kubectl(&["get", "deployments", "-o", "name"]);
    assert_eq!(workloads, "deployment.apps/api\ndeployment.apps/web\n");
    let weights = "jsonpath={.spec.weighted.services[*].name}";
    let services = shop.kubectl(&["get", "traefikservice", "web", "-o", weights]);
    assert_eq!(services, "web");
    let told = shop.told();
    let of_stage = |share: &str| {
        let text = format!("{share} % of the traffic passed its watch");
        told.iter().any(|told| told.contains(&text))
    };
    assert!(of_stage("10") && of_stage("50"), "{told:?}");
    shop.assert_no_secret_in(&[&ended]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_requests_is_taken_back_before_the_main_workload_is_touched() {
    let shop = Shop::open("e2e-canary-bad").await;
    let in_place = shop.consumer.workflow("dev.yml").input("version", OLD);
    assert_succeeded(&in_place.wait().unwrap());
    shop.becomes("/", OLD).await;
    let image = "image: registry.example.com/shop/web";
    let image = image.replace("registry.example.com/shop", &shop.registry());
    let failing = format!("{image}\n          env: [{{name: ERROR_RATE, value: \"0.3\"}}]");
    shop.consumer
        .change("deploy/web.yaml", &image, &failing)
        .unwrap();
    // Tests without traffic would see it first.
    let tests = "      tests: scripts/smoke-test.sh\n";
    shop.consumer.change(CANARY, tests, "").unwrap();
    let ended = shop.consumer.workflow("canary.yml").input("version", NEW);
    let ended = ended.wait().unwrap();
    assert_failed(&ended);
    assert_eq!(shop.phase(), "rolled_back");
    shop.assert_live(OLD).await;
    let workloads = shop.kubectl(&["get", "deployments", "-o", "name"]);
    let gone = workloads == "deployment.apps/api\ndeployment.apps/web\n";
    assert!(gone, "{workloads}{}", ended.log);
    let told = shop.told();
    let last = told.last().expect("somebody was told");
    assert!(last.contains("rolled back"), "{told:?}");
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let image = shop.kubectl(&["get", "deployment", "web", "-o", image]);
    assert_eq!(image, shop.sandbox.image("web", OLD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_workload_that_fails_its_smoke_tests_is_undone_behind_its_canary_without_a_lost_request()
 {
    let shop = Shop::open("e2e-canary-undo").await;
    let in_place = shop.consumer.workflow("dev.yml").input("version", OLD);
    assert_succeeded(&in_place.wait().unwrap());
    shop.becomes("/", OLD).await;
    let smoke = "smoke-tests: scripts/smoke-test.sh";
    shop.consumer
        .change(CANARY, smoke, "smoke-tests: exit 1")
        .unwrap();
    shop.has_one_stage_of_half("3s");
    let loads = shop.loads();
    let ended = shop.consumer.workflow("canary.yml").input("version", NEW);
    let ended = ended.wait().unwrap();
    assert_failed(&ended);
    assert_eq!(shop.phase(), "rolled_back", "{}", ended.log);
    assert_nothing_lost(&stop(loads).await);
    shop.assert_live(OLD).await;
    let workloads = shop.kubectl(&["get", "deployments", "-o", "name"]);
    let gone = workloads == "deployment.apps/api\ndeployment.apps/web\n";
    assert!(gone, "{workloads}{}", ended.log);
    assert!(ended.log.contains("back to revision") || ended.log.contains("put back"));
    let told = shop.told();
    assert!(told.last().unwrap().contains("rolled back"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_ordered_from_another_run_takes_a_canary_back_while_its_own_run_watches() {
    let shop = Shop::open("e2e-canary-order").await;
    let in_place = shop.consumer.workflow("dev.yml").input("version", OLD);
    assert_succeeded(&in_place.wait().unwrap());
    shop.becomes("/", OLD).await;
    shop.has_one_stage_of_half("30m");
    let loads = shop.loads();
    let canary = shop.consumer.workflow("canary.yml").input("version", NEW);
    let mut canary = canary.start().unwrap();
    let deadline = Instant::now() + Duration::from_secs(300);
    while !canary.log().unwrap().contains("Run Main Stage 1: watch") {
        let waits = canary.is_running().unwrap() && Instant::now() < deadline;
        assert!(waits, "{}", canary.log().unwrap());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let ordered = shop.consumer.workflow("rollback.yml").wait().unwrap();
    assert_succeeded(&ordered);
    let ended = canary.wait().unwrap();
    assert_failed(&ended);
    assert!(
        ended.job("Deploy").contains("rolled back by"),
        "{}",
        ended.log
    );
    assert_eq!(shop.phase(), "rolled_back", "{}", ended.log);
    assert_nothing_lost(&stop(loads).await);
    shop.assert_live(OLD).await;
    let workloads = shop.kubectl(&["get", "deployments", "-o", "name"]);
    assert_eq!(workloads, "deployment.apps/api\ndeployment.apps/web\n");
    let told = shop.told();
    assert!(
        told.iter().any(|told| told.contains("rolled back")),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deployment_in_place_that_fails_is_left_to_a_person_who_orders_another() {
    let shop = Shop::opened("e2e-dev-first", Access::StoredKubeconfig).await;
    let deploy = |version: &str| shop.consumer.workflow("dev.yml").input("version", version);
    let ended = deploy("crashing").wait().unwrap();
    assert_failed(&ended);
    assert_eq!(shop.phase(), "needs_person");
    assert!(
        ended.job("Deploy").contains("nothing was live before"),
        "{}",
        ended.log
    );
    assert_succeeded(&deploy(OLD).input("new-deployment", "true").wait().unwrap());
    shop.becomes("/", OLD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_dies_in_mid_update_is_rescued_from_the_backup() {
    let shop = Shop::open("e2e-dev-death").await;
    let deploy = |version: &str| shop.consumer.workflow("dev.yml").input("version", version);
    assert_succeeded(&deploy(OLD).wait().unwrap());
    let ended = deploy(NEW).dies(Death {
        job: "deploy".into(),
        program: "rollout".into(),
        command: "apply".into(),
        point: "settle:1".into(),
    });
    let ended = ended.wait().unwrap();
    assert_failed(&ended);
    assert!(ended.job("Rescue").contains("put back"), "{}", ended.log);
    let who =
        |environment: &str| format!("we are `github:repo:acme/shop:environment:{environment}`");
    for (job, environment) in [("Deploy", "dev"), ("Rescue", "dev-rollback")] {
        let log = ended.job(job);
        assert!(log.contains(&who(environment)), "{job}: {log}");
    }
    assert_eq!(shop.phase(), "rolled_back");
    shop.assert_live(OLD).await;
    assert_succeeded(&deploy(NEW).wait().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_in_place_updates_and_undoes_itself() {
    let shop = Shop::open("e2e-dev").await;
    let deploy = |version: &str| {
        let run = shop.consumer.workflow("dev.yml").input("version", version);
        run.wait().unwrap()
    };
    assert_succeeded(&deploy(OLD));
    assert_eq!(shop.live("/").await, OLD);
    let ended = deploy(NEW);
    assert_succeeded(&ended);
    assert!(
        ended.log.contains("the schema is up to date"),
        "{}",
        ended.log
    );
    assert_eq!(shop.live("/").await, NEW);

    assert_failed(&deploy("crashing"));
    assert_eq!(shop.live("/").await, NEW);
    assert_eq!(shop.phase(), "rolled_back");
    let image = shop.kubectl(&[
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ]);
    assert!(image.ends_with(NEW), "{image}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_goes_through_or_back_at_its_first_bad_pod_and_is_rolled_back_by_order_without_a_lost_request()
 {
    let shop = Shop::open("e2e-rolling").await;
    let deploy = |version: &str| {
        let run = shop
            .consumer
            .workflow("rolling.yml")
            .input("version", version);
        run.wait().unwrap()
    };
    assert_succeeded(&deploy(OLD));
    shop.becomes("/", OLD).await;
    let loads = shop.loads();
    let good = deploy(NEW);
    assert_succeeded(&good);
    for said in [
        "deployment/web: 2 pods, at most 3 at once (maxSurge 25%), at least 2 available (maxUnavailable 0)",
        "preStop: `web` sleeps 5s",
        "deployment/web: 2 of 2 pods run the new template",
    ] {
        assert!(good.log.contains(said), "{said}: {}", good.log);
    }
    assert_eq!(shop.live("/").await, NEW);
    assert_eq!(shop.phase(), "succeeded");

    let bad = deploy("crashing");
    assert_failed(&bad);
    assert!(
        bad.log.contains("paused, no further new pod comes"),
        "{}",
        bad.log
    );
    assert!(!bad.log.contains("progress deadline"), "{}", bad.log);
    assert_eq!(shop.phase(), "rolled_back");
    shop.assert_live(NEW).await;
    let paused = "jsonpath={.items[*].spec.paused}";
    assert_eq!(shop.kubectl(&["get", "deployments", "-o", paused]), "");
    let left = "this run has no deployment that is under way";
    assert!(
        bad.log.contains(left),
        "nothing is left to clean up: {}",
        bad.log
    );
    let last = shop.told().pop().expect("somebody was told");
    assert_eq!(
        last,
        "↩️ Deployment of shop crashing to production was rolled back"
    );
    let summary = shop.summary();
    assert!(
        summary.contains("restarted") || summary.contains("crashes again"),
        "{summary}"
    );

    // The example's checks are those of two sides.
    let workflow = ".github/workflows/rollback.yml";
    shop.consumer.change(workflow, "-{slot}", "").unwrap();
    let back = shop.consumer.workflow("rollback.yml").wait().unwrap();
    assert_succeeded(&back);
    shop.assert_live(OLD).await;
    let reports = stop(loads).await;
    assert_nothing_lost(&reports);
    for report in &reports {
        assert_eq!(report.by_version.keys().collect::<Vec<_>>(), [OLD, NEW]);
    }
    shop.assert_no_secret_in(&[&good, &bad, &back]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_updated_one_by_one_and_the_first_that_fails_stops_it_with_the_others_serving()
{
    let rig = rig::Rig::new(3, 1);
    let shop = Shop::opened("e2e-servers", Access::StoredKubeconfig).await;
    let workflow = ".github/workflows/servers.yml";
    let state = rig.path().join("state.json").display().to_string();
    for (from, to) in [
        ("/run/haproxy/admin.sock", rig.places().as_str()),
        ("/var/lib/switchyard/web.json", &state),
    ] {
        shop.consumer.change(workflow, from, to).unwrap();
    }
    let script = format!("#!/usr/bin/env bash\nset -e\n{}", rig.update());
    shop.consumer
        .add("scripts/update-server.sh", &script)
        .unwrap();
    let deploy = || {
        let run = shop.consumer.workflow("servers.yml").input("version", "v2");
        run.wait().unwrap()
    };
    let load = rig.load(0, 100).start();
    rig.hook("if [ \"$1\" = web2 ]; then echo the disk is full; exit 1; fi");
    let stopped = deploy();
    assert_failed(&stopped);
    assert!(stopped.log.contains("the disk is full"), "{}", stopped.log);
    assert_eq!(rig.updates(), ["web1", "web2"], "it goes no further");
    assert_eq!(rig.states(0), ["UP", "MAINT", "UP"]);
    let summary = shop.summary();
    let standing = "servers updated: web1; out or failed: web2; not updated: web3";
    assert!(summary.contains(standing), "{summary}");

    rig.hook("");
    let updated = deploy();
    assert_succeeded(&updated);
    assert_eq!(rig.states(0), ["UP"; 3]);
    let report = load.stop().await.unwrap();
    assert_nothing_lost(std::slice::from_ref(&report));
    assert!(report.by_version["v1"] > 0 && report.by_version["v2"] > 0);
    assert_eq!(
        shop.told(),
        [
            "🚀 Deploying shop v2 to production",
            "❌ Deployment of shop v2 to production failed",
            "🚀 Deploying shop v2 to production",
            "✅ Deployed shop v2 to production",
        ]
    );
}

const PRICES: &str = "20260201090000_prices";

/// What installs Prisma where no registry is: the one that is cached, started as the tests start it.
fn install_prisma(folder: &Path) -> String {
    let cached = tool("prisma");
    let script = folder.join("install.sh");
    let variables = Prisma::variables().map(|(name, value)| format!("{name}={value} "));
    let text = format!(
        "mkdir -p node_modules/.bin\ncp {0}/prisma.config.ts .\nln -sf {0}/node_modules/* {0}/node_modules/@* node_modules/\n\
         printf '#!/bin/sh\\n{1} exec node {0}/node_modules/prisma/build/index.js \"$@\"\\n' >node_modules/.bin/prisma\n\
         chmod +x node_modules/.bin/prisma\n",
        cached.display(),
        variables.concat(),
    );
    std::fs::write(&script, text).unwrap();
    format!("bash {}", script.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_migrated_before_green_and_a_migration_that_fails_leaves_blue_serving() {
    let server = Server::start();
    let database = server.database();
    let tools = TempDir::with_prefix("switchyard-tools").unwrap();
    let shop = Shop::filled_in("e2e-migrate", Access::Login, |settings| {
        settings.database_url = database.url();
        settings.install = install_prisma(tools.path());
        settings.backup_to = tools.path().join("backups").display().to_string();
    })
    .await;
    let release = |version: &str| {
        let run = shop.consumer.workflow("migrate-and-release.yml");
        run.input("version", version).wait().unwrap()
    };
    let first = release(OLD);
    assert_succeeded(&first);
    shop.becomes("/", OLD).await;
    assert_eq!(
        database.read("SELECT to_regclass('\"Order\"') IS NOT NULL"),
        "t"
    );
    let backups = std::fs::read_dir(tools.path().join("backups")).unwrap();
    assert_eq!(backups.count(), 1, "one of the database is kept");
    let applied = first.job("Apply the migrations");
    // What keeps the backup, for the rest of the job.
    let who = format!("assumed-role/{}/switchyard-", shop.logins().role());
    let is_role = applied
        .lines()
        .any(|line| line.contains("every later step of this job is") && line.contains(&who));
    assert!(is_role, "{applied}");

    let file = format!("prisma/migrations/{PRICES}/migration.sql");
    let add = |sql: &str| shop.consumer.add(&file, sql).unwrap();
    add("ALTER TABLE \"Orders\" ADD COLUMN \"price\" INTEGER;\n");
    let loads = shop.loads();
    let records = shop.kubectl(&["get", "configmaps", "-o", "name"]);
    let failed = release(NEW);
    assert_failed(&failed);
    assert!(failed.log.contains(PRICES), "{}", failed.log);
    let after = shop.kubectl(&["get", "configmaps", "-o", "name"]);
    assert_eq!(after, records, "no deployment was begun");
    let told = shop.told();
    let last = told.last().unwrap();
    assert!(last.contains("failed"), "{told:?}");
    assert_eq!(shop.live("/").await, OLD);

    // The developers correct the migration, and say that nothing of it ran.
    add("ALTER TABLE \"Order\" ADD COLUMN \"price\" INTEGER;\n");
    let prisma = Prisma::new();
    prisma.migration(PRICES, "SELECT 1;\n");
    let resolved = prisma.run(
        &database.url(),
        &["migrate", "resolve", "--rolled-back", PRICES],
    );
    assert_eq!(resolved.code, Some(0), "{}", resolved.log);
    let second = release(NEW);
    assert_succeeded(&second);
    let price = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'price'";
    assert_eq!(database.read(price), "1");
    assert_eq!(shop.live("/").await, NEW);

    // Where nothing is pending there is nothing to approve, and what is verified is deployed.
    let third = release("v1.2.0");
    assert_succeeded(&third);
    assert_eq!(third.job("Apply the migrations"), "");
    assert_eq!(shop.live("/").await, "v1.2.0");
    assert_nothing_lost(&stop(loads).await);
    for ended in [&first, &failed, &second, &third] {
        assert!(!ended.log.contains(PASSWORD), "{}", ended.log);
    }
    shop.assert_no_secret_in(&[&first, &second, &third]);
}
