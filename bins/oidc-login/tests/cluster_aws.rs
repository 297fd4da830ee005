//! Logins with EKS's tokens to the real API server, which asks STS whose they are, used by kubectl.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::path::Path;
use std::process::Command;

use support::aws::Aws;
use support::kubeconfig;
use switchyard_sandbox::Sandbox;

/// Who the API server takes kubectl for in a later step of the job.
fn who(aws: &Aws, config: &Path) -> String {
    let output = Command::new(Sandbox::shared().kubectl())
        .args(["auth", "whoami", "--request-timeout=20s"])
        .args(["--output", "jsonpath={.status.userInfo.username}"])
        .env("KUBECONFIG", config)
        .env("GITHUB_ACTIONS", "true")
        .envs(aws.variables())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let errors = text(&output.stderr);
    for secret in aws.secrets() {
        assert!(!errors.contains(&secret), "kubectl shows a secret");
    }
    assert!(output.status.success(), "{errors}");
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_is_the_session_of_the_role_that_has_an_access_entry() {
    let sandbox = Sandbox::shared();
    let aws = Aws::in_sandbox(&sandbox);
    let ended = aws.login().run();
    assert_eq!(ended.code, Some(3), "{}", ended.log());
    assert!(
        ended.stdout.contains("does not take the token"),
        "{}",
        ended.stdout
    );
    let _entry = sandbox.admit_role(&aws.role.arn(), &["deployers"]).unwrap();
    let ended = aws.login().run();
    assert_eq!(ended.code, Some(0), "{}", ended.log());
    assert!(ended.stdout.contains("`deployers`"), "{}", ended.stdout);
    let session = aws.account.sessions().pop().unwrap();
    let config = kubeconfig(&ended);
    assert_eq!(who(&aws, &config), session.arn());
    // The next token is signed anew, by the session that is kept.
    std::fs::remove_file(aws.kept("token")).unwrap();
    assert_eq!(who(&aws, &config), session.arn());
    std::fs::remove_file(aws.kept("session")).unwrap();
    std::fs::remove_file(aws.kept("token")).unwrap();
    let sessions = aws.account.sessions().len();
    assert_eq!(who(&aws, &config), session.arn());
    assert_eq!(aws.account.sessions().len(), sessions + 1);
    aws.assert_no_secret_in(&ended);
}
