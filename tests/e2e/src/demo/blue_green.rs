//! A blue-green deployment and its rollback: v1.0.0 is live, v1.1.0 is deployed, v1.0.0 comes back.

use switchyard_sandbox::load::{KeepAlive, RunningLoad};

use super::{RATE, STEADY, Stage, say, timeline};
use crate::{Doing as _, Result};

/// Plays it and returns how many requests were lost.
pub(super) async fn play(stage: &Stage) -> Result<u64> {
    stage.tell("deploying v1.0.0 into an empty namespace");
    stage.run("release.yml", Some("v1.0.0")).await?;
    let loads = [
        ("web", stage.load("/", KeepAlive::On)?),
        ("api", stage.load("/api", KeepAlive::Off)?),
    ];
    stage.tell(&format!(
        "load on: {RATE} requests/s on web (kept connections), {RATE} on api (new ones)"
    ));
    tokio::time::sleep(STEADY).await;
    tell_counts(stage, "live is v1.0.0", &loads);

    stage.tell("the consumer's release workflow deploys v1.1.0");
    stage.run("release.yml", Some("v1.1.0")).await?;
    tokio::time::sleep(STEADY).await;
    tell_counts(stage, "live is v1.1.0", &loads);

    stage.tell("the consumer's rollback workflow brings v1.0.0 back");
    stage.run("rollback.yml", None).await?;
    tokio::time::sleep(STEADY).await;
    tell_counts(stage, "live is v1.0.0", &loads);

    let mut lost = 0;
    for (name, load) in loads {
        let report = load.stop().await.doing(|| "end the load".into())?;
        lost += report.lost;
        say(&format!(
            "\n{name}: {}\n{}",
            report.summary(),
            timeline(&report)
        ));
    }
    Ok(lost)
}

fn tell_counts(stage: &Stage, what: &str, loads: &[(&str, RunningLoad)]) {
    for (name, load) in loads {
        let (succeeded, lost) = load.counts();
        stage.tell(&format!(
            "{what}; {name}: {succeeded} answered (v1.0.0 {}, v1.1.0 {}), {lost} lost",
            load.answers_of("v1.0.0"),
            load.answers_of("v1.1.0"),
        ));
    }
}
