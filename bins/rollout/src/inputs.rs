//! The inputs of every subcommand: the only place where they are declared.
//!
//! Values are parsed into types that cannot hold nonsense; what they mean is decided by the commands.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand, ValueEnum};
use switchyard_manifest::{ImageOverride, ObjectName, Slot};
use switchyard_record::Budgets;
use switchyard_runner::{DeploymentArgs, Failure, Kind, List, values};

use crate::remember::NoticeKey;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Apply manifests, in place or into the idle slot
    Apply(ApplyArgs),
    /// Update workloads in place, pod by pod, and bring the version before back at the first bad pod
    Roll(RollArgs),
    /// Bring the new version up as a small copy beside the main workload, which stays as it is
    Canary(CanaryArgs),
    /// Update the main workload while its canary takes all of the traffic
    Promote(PromoteArgs),
    /// Bring the main workload back to the version before, while its canary takes all of the traffic
    Undo(UndoArgs),
    /// Delete a canary that takes no traffic any more
    Retire(RetireArgs),
    /// Change the size of a side's workloads
    Scale(ScaleArgs),
    /// Write version, commit, run and deployer onto the workloads
    Annotate(AnnotateArgs),
    /// Save the live side's objects to a file
    Backup(BackupArgs),
    /// Bring back a backup, or the previous revision of workloads
    Restore(RestoreArgs),
    /// Take the deployment in place back that is active or live, whoever's it is, to the revisions before it
    Revert(RevertArgs),
    /// Take an application without slots into care as the old side
    Adopt(AdoptArgs),
    /// Show sides, sizes, versions and who takes traffic
    Status(StatusArgs),
    /// Keep in the deployment's record where a notice about it was posted
    Remember(RememberArgs),
    /// Verify the live state and mark the deployment as succeeded
    Finish(FinishArgs),
}

/// Where manifests come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManifestArgs {
    /// Manifest files, folders or glob patterns
    ///
    /// A folder stands for its `.yaml`, `.yml` and `.json` files, without its subfolders.
    #[arg(long, default_value = "")]
    pub(crate) files: List<String>,
    /// Folder of a kustomization, rendered by `kustomize build` or `kubectl kustomize`
    #[arg(long)]
    pub(crate) kustomization: Option<PathBuf>,
    /// Helm chart (folder, archive or reference), rendered by `helm template` without hooks
    #[arg(long)]
    pub(crate) chart: Option<String>,
    /// Values files of the chart
    #[arg(long, default_value = "")]
    pub(crate) values: List<String>,
    /// Release name of the chart; the application's name when it is not given
    #[arg(long)]
    pub(crate) release: Option<String>,
    /// Images to replace, `name=reference`: a whole reference, `:tag` or `@sha256:…`
    #[arg(long, default_value = "")]
    pub(crate) images: List<ImageOverride>,
}

/// What everything that applies manifests is given: for which deployment, which manifests, and how they are written.
#[derive(Debug, Args)]
pub(crate) struct WrittenArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Which manifests.
    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,
    /// Version that is deployed, for the record
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Take fields over that another field manager owns
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) force_conflicts: bool,
}

/// Which slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SlotChoice {
    /// In place: no slots.
    None,
    /// The slot that takes no traffic; fixed for the whole deployment.
    Auto,
    /// The blue slot.
    Blue,
    /// The green slot.
    Green,
    /// A canary beside the main workload, made by the command `canary`.
    Canary,
}

/// Which objects of a slotted manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StageChoice {
    /// The slot's objects, shared ones and fronts.
    BeforeSwitch,
    /// What was declared `after-switch`, in place.
    AfterSwitch,
    /// The main workload behind its canary, in place, by the command `promote`.
    #[value(skip)]
    Promotion,
}

/// Inputs of `apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// What is written, and for which deployment.
    #[command(flatten)]
    pub(crate) written: WrittenArgs,
    /// Where the objects go: in place, or into a slot
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) slot: SlotChoice,
    /// Services that decide where traffic goes (`service/web`); never suffixed, traffic fields kept
    ///
    /// Routes (Ingress, HTTPRoute, TraefikService, IngressRoute, VirtualService) always are fronts.
    #[arg(long, default_value = "")]
    pub(crate) front: List<ObjectName>,
    /// Workloads without a Service that stand once and are changed after the switch
    #[arg(long, default_value = "")]
    pub(crate) after_switch: List<ObjectName>,
    /// Workloads without a Service that may run in both slots at once
    #[arg(long, default_value = "")]
    pub(crate) per_slot: List<ObjectName>,
    /// Which objects of a slotted manifest to apply
    #[arg(long, value_enum, default_value = "before-switch")]
    pub(crate) stage: StageChoice,
    /// Show what would change, and change nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) plan: bool,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "5m")]
    pub(crate) timeout: Duration,
    /// Pods of each workload of a canary.
    #[arg(skip)]
    pub(crate) canary_pods: u16,
    /// How the update is rolled and watched, by the command `roll`.
    #[arg(skip)]
    pub(crate) rolling: Option<RollingArgs>,
}

/// Inputs of `roll`.
#[derive(Debug, Args)]
pub(crate) struct RollArgs {
    /// What is written, and for which deployment.
    #[command(flatten)]
    pub(crate) written: WrittenArgs,
    /// How it is rolled and watched.
    #[command(flatten)]
    pub(crate) rolling: RollingArgs,
    /// Show what would change, and change nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) plan: bool,
    /// Longest time for the update; the way back may take as long again
    #[arg(long, value_parser = values::duration, default_value = "10m")]
    pub(crate) timeout: Duration,
}

/// How a rolling update goes, and what it is judged by.
#[derive(Debug, Clone, Args)]
pub(crate) struct RollingArgs {
    /// Pods that a Deployment may have on top of its size (`1`, `25%`); the manifest's when it is not given
    #[arg(long)]
    pub(crate) max_surge: Option<PodCount>,
    /// Pods of a Deployment that may be missing (`0`, `25%`); the manifest's when it is not given
    #[arg(long)]
    pub(crate) max_unavailable: Option<PodCount>,
    /// How long a pod that is told to end serves on, such as `5s`, so that proxies leave it in time
    ///
    /// Added as `lifecycle.preStop.sleep` to every container of the manifests that has no preStop hook; the
    /// pod's grace period gets as much longer. It needs Kubernetes 1.30.
    #[arg(long)]
    pub(crate) pre_stop_sleep: Option<PreStopSleep>,
    /// How long a new pod may run without being ready, where its startup probe does not allow more
    #[arg(long, value_parser = values::duration, default_value = "2m")]
    pub(crate) ready_within: Duration,
    /// Backup of what is live, as `backup` wrote it, to bring back at a bad pod; without it the revisions of
    /// the workloads
    ///
    /// A revision brings back pods alone. What else was changed in place (ConfigMaps, Services) comes back
    /// from a backup only.
    #[arg(long)]
    pub(crate) backup_file: Option<PathBuf>,
}

/// A number of pods, or a share of a workload's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PodCount {
    /// So many.
    Pods(u16),
    /// So many in a hundred.
    Percent(u8),
}

impl PodCount {
    /// As Kubernetes has it: a number, or a text with `%`.
    pub(crate) fn to_value(self) -> serde_json::Value {
        match self {
            Self::Pods(pods) => pods.into(),
            Self::Percent(percent) => format!("{percent}%").into(),
        }
    }
}

impl std::fmt::Display for PodCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pods(pods) => write!(f, "{pods}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for PodCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || "a number of pods such as `1`, or a share from `0%` to `100%`".to_owned();
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
                Ok(_) | Err(_) => Err(refused()),
            },
            None => text.parse().map(Self::Pods).map_err(|_| refused()),
        }
    }
}

/// How long a pod that is told to end serves on: whole seconds, as Kubernetes takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PreStopSleep(u32);

impl PreStopSleep {
    /// The longest: far above what any proxy takes.
    const LONGEST: u64 = 600;

    /// In seconds, never 0.
    pub(crate) fn seconds(self) -> u32 {
        self.0
    }
}

impl FromStr for PreStopSleep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || format!("whole seconds from `1s` to `{}s`", Self::LONGEST);
        let duration = values::duration(text)?;
        let seconds = duration.as_secs();
        if duration.subsec_nanos() > 0 || seconds == 0 || seconds > Self::LONGEST {
            return Err(refused());
        }
        u32::try_from(seconds).map(Self).map_err(|_| refused())
    }
}

/// Inputs of `canary`.
#[derive(Debug, Args)]
pub(crate) struct CanaryArgs {
    /// What is written, and for which deployment.
    #[command(flatten)]
    pub(crate) written: WrittenArgs,
    /// Pods of each workload of the canary
    ///
    /// `scale` with `side: new` changes it later.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) canary_pods: u16,
    /// Show what would change, and change nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) plan: bool,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "5m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `promote`.
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// What is written, and for which deployment: the manifests are those of `canary`.
    #[command(flatten)]
    pub(crate) written: WrittenArgs,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "5m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `undo`.
#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Backup of the main side, as `backup` wrote it; without it the revisions that the record names
    ///
    /// A revision brings back pods alone. What else was changed in place (ConfigMaps, Services) comes back
    /// from a backup only.
    #[arg(long)]
    pub(crate) backup_file: Option<PathBuf>,
    /// SHA-256 digest that the backup must have (`sha256:…`); the record's when it is not given
    #[arg(long)]
    pub(crate) digest: Option<BackupDigest>,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "5m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `retire`.
#[derive(Debug, Args)]
pub(crate) struct RetireArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "5m")]
    pub(crate) timeout: Duration,
}

/// A side as inputs name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SideChoice {
    /// The side that was live when the deployment began.
    Old,
    /// The side that the deployment made.
    New,
    /// The blue slot.
    Blue,
    /// The green slot.
    Green,
}

/// How many pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replicas {
    /// This many.
    Count(u16),
    /// As many as there are: only the record moves on.
    Keep,
    /// As many as the old side had when the deployment began.
    AsOld,
}

impl FromStr for Replicas {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "keep" => return Ok(Self::Keep),
            "as-old" => return Ok(Self::AsOld),
            _ => {}
        }
        text.parse()
            .map(Self::Count)
            .map_err(|_| "a number from 0 to 65535, `keep` or `as-old`".to_owned())
    }
}

/// Inputs of `scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Side to scale: old, new, blue or green
    #[arg(long, value_enum)]
    pub(crate) side: Option<SideChoice>,
    /// Workloads to scale instead of a side (`deployment/web`)
    #[arg(long, default_value = "")]
    pub(crate) workloads: List<ObjectName>,
    /// Number of pods of each workload, `keep`, or `as-old` for as many as the old side had at the start
    #[arg(long)]
    pub(crate) replicas: Replicas,
    /// Wait until the pods are there, or gone
    #[arg(long, value_parser = values::boolean, default_value = "true", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) wait: bool,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "5m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `annotate`.
#[derive(Debug, Args)]
pub(crate) struct AnnotateArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Side to annotate: old, new, blue or green; the deployment's new side when nothing is given
    #[arg(long, value_enum)]
    pub(crate) side: Option<SideChoice>,
    /// Workloads to annotate instead of a side (`deployment/web`)
    #[arg(long, default_value = "")]
    pub(crate) workloads: List<ObjectName>,
    /// Version that runs
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Commit that it was built from; the workflow's commit when it is not given
    #[arg(long)]
    pub(crate) commit: Option<String>,
    /// Link to the workflow run; this run's when it is not given
    #[arg(long)]
    pub(crate) run_url: Option<String>,
    /// Who deploys; the workflow's actor when it is not given
    #[arg(long)]
    pub(crate) deployer: Option<String>,
    /// Text for `kubernetes.io/change-cause`; made of the others when it is not given
    #[arg(long)]
    pub(crate) change_cause: Option<String>,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "2m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// How the deployment that begins here will be applied: in place, or into a slot
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) slot: SlotChoice,
    /// Workloads to save (`deployment/web`), with what belongs to them; those of the live side when nothing is given
    #[arg(long, default_value = "")]
    pub(crate) workloads: List<ObjectName>,
    /// File to write
    ///
    /// `switchyard-backup-APPLICATION.yaml` in the runner's temporary folder when it is not given.
    #[arg(long)]
    pub(crate) backup_file: Option<PathBuf>,
    /// Version that the deployment brings, for the record
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "5m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Backup to restore
    #[arg(long)]
    pub(crate) backup_file: Option<PathBuf>,
    /// SHA-256 digest that the backup must have (`sha256:…`); the record's when it is not given
    #[arg(long)]
    pub(crate) digest: Option<BackupDigest>,
    /// Workloads whose previous revision to bring back (`deployment/web`)
    #[arg(long, default_value = "")]
    pub(crate) workloads: List<ObjectName>,
    /// Revision to bring back; the one before the current when it is not given
    #[arg(long)]
    pub(crate) to_revision: Option<u64>,
    /// Take back this run's own deployment in place if it is under way, and do nothing otherwise
    ///
    /// For the step or job that cleans up after a failure. It needs `application`, and `backup-file`
    /// where something was live before.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) only_under_way: bool,
    /// With `only-under-way`: fail when no record tells of a deployment of this run
    ///
    /// The record lives in the namespace, so a wrong `namespace` or cluster looks as if nothing had been
    /// begun. Say `true` where something that outlives a dead runner tells that a deployment was begun,
    /// such as the artifact of its backup; a `deployment-id` says as much.
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) expect_deployment: bool,
    /// Show what would change, and change nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) plan: bool,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "5m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `revert`.
#[derive(Debug, Args)]
pub(crate) struct RevertArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Why, for the record
    #[arg(long, default_value = "ordered by a person")]
    pub(crate) reason: String,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "5m")]
    pub(crate) timeout: Duration,
}

/// A digest of a backup: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackupDigest(String);

impl BackupDigest {
    /// The digest of these bytes.
    #[must_use]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(format!(
            "sha256:{}",
            switchyard_manifest::config_digest::sha256(bytes)
        ))
    }

    /// With its `sha256:`.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        if digits.len() == 64 && digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
            Ok(Self(text.to_lowercase()))
        } else {
            Err("a digest is `sha256:` and 64 hexadecimal digits".to_owned())
        }
    }
}

/// Inputs of `adopt`.
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Deployments that are live now (`deployment/web`)
    #[arg(long)]
    pub(crate) workloads: List<ObjectName>,
    /// Version that runs, for the record
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Show what would change, and change nothing
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) plan: bool,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "2m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Print JSON to standard output instead of a table
    #[arg(long, value_parser = values::boolean, default_value = "false", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) json: bool,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "1m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `finish`.
#[derive(Debug, Args)]
pub(crate) struct FinishArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Minutes that each stage may take, `stage=minutes`
    ///
    /// Stages: validation, deploy, test, switch, monitor, safety, cleanup. The defaults are those of
    /// the blue-green workflow.
    #[arg(long)]
    pub(crate) budgets: Option<Budgets>,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "2m")]
    pub(crate) timeout: Duration,
}

/// Inputs of `remember`.
#[derive(Debug, Args)]
pub(crate) struct RememberArgs {
    /// Which deployment.
    #[command(flatten)]
    pub(crate) deployment: DeploymentArgs,
    /// Where notices were posted, `CHANNEL=KEY`, such as `slack=` and the output `slack-ts` of `notify`
    ///
    /// A later notice of the same deployment, also from another job or after this runner died, finds them
    /// in the output `notices` and brings the same message up to date.
    #[arg(long)]
    pub(crate) notices: List<NoticeKey>,
    /// Longest time for the whole command
    #[arg(long, value_parser = values::duration, default_value = "1m")]
    pub(crate) timeout: Duration,
}

impl SlotChoice {
    /// The slot that is asked for by name.
    #[must_use]
    pub(crate) const fn named(self) -> Option<Slot> {
        match self {
            Self::None | Self::Auto | Self::Canary => None,
            Self::Blue => Some(Slot::Blue),
            Self::Green => Some(Slot::Green),
        }
    }

    /// The word of the input.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Auto => "auto",
            Self::Blue => "blue",
            Self::Green => "green",
            Self::Canary => "canary",
        }
    }
}

impl StageChoice {
    /// The word of the input.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeSwitch => "before-switch",
            Self::AfterSwitch => "after-switch",
            Self::Promotion => "promotion",
        }
    }
}

/// Refuses two inputs that exclude each other.
///
/// # Errors
/// A failure of kind input when both are given.
pub(crate) fn refuse_both(given: [(&str, bool); 2]) -> Result<(), Failure> {
    let [(first, is_first), (second, is_second)] = given;
    if is_first && is_second {
        return Err(Failure::message(
            Kind::Input,
            format!("inputs `{first}` and `{second}` exclude each other"),
        )
        .hint("give one of them"));
    }
    Ok(())
}

/// Refuses an input that means something only beside another one.
///
/// # Errors
/// A failure of kind input when the first is given without the second.
pub(crate) fn refuse_alone(
    (input, is_given): (&str, bool),
    (needed, is_there): (&str, bool),
) -> Result<(), Failure> {
    if is_given && !is_there {
        return Err(Failure::message(
            Kind::Input,
            format!("input `{input}` needs input `{needed}`"),
        ));
    }
    Ok(())
}
