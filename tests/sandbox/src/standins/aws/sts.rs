//! STS: AssumeRoleWithWebIdentity, which takes a token instead of a signature, AssumeRole of a session
//! (role chaining) and GetCallerIdentity, signed in a header or in the query.
//! <https://docs.aws.amazon.com/STS/latest/APIReference/>

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    ACCOUNT, Account, Role, Session, role_id,
    sigv4::signer,
    xml::{element, error, refused, response},
};
use crate::standins::{
    clock::iso,
    entra::matches,
    jwt::{Signature, Token},
    random::uuid,
    received::Received,
    server::{Answer, Service},
};

const VERSION: &str = "2011-06-15";
/// Longest session of a role that was assumed by a session, in seconds.
const CHAINED: i64 = 3_600;

/// The service of a region.
pub struct Sts {
    account: Arc<Account>,
}

/// The parameters that both ways to assume a role share.
struct Assumption {
    arn: String,
    name: String,
    seconds: i64,
}

impl Sts {
    /// STS of an account.
    #[must_use]
    pub fn new(account: Arc<Account>) -> Self {
        Self { account }
    }

    fn route(&self, request: &Received) -> Result<Answer, Answer> {
        let fields = match request.method.as_str() {
            "POST" => request.form_fields().unwrap_or_default(),
            _ => request.query.iter().cloned().collect(),
        };
        let field = |name: &str| fields.get(name).map(String::as_str);
        let Some(action) = field("Action") else {
            return Err(error(
                400,
                "MissingAction",
                "The request must contain the parameter Action",
            ));
        };
        let version = field("Version").unwrap_or("NO_VERSION_SPECIFIED");
        let known = [
            "AssumeRoleWithWebIdentity",
            "AssumeRole",
            "GetCallerIdentity",
        ];
        if version != VERSION || !known.contains(&action) {
            let words = format!("Could not find operation {action} for version {version}");
            return Err(error(400, "InvalidAction", &words));
        }
        if action == "AssumeRoleWithWebIdentity" {
            return self.assume_with_token(&fields);
        }
        let signer = signer(request, &self.account, "sts");
        let session = signer.map_err(|fault| refused(&fault))?;
        if action == "AssumeRole" {
            return self.assume_by_session(&fields, &session);
        }
        let accept = request.header("accept").unwrap_or_default();
        Ok(caller(&session, accept.contains("application/json")))
    }

    fn assume_with_token(&self, fields: &BTreeMap<String, String>) -> Result<Answer, Answer> {
        let assumption = Assumption::parse(fields)?;
        let text = required(fields, "WebIdentityToken", "webIdentityToken")?;
        let invalid = |words: &str| error(400, "InvalidIdentityToken", words);
        let token = Token::parse(text).ok_or_else(|| {
            invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
        })?;
        let issuer = token.text("iss");
        let provider = self.account.providers.get(issuer);
        let provider = provider.ok_or_else(|| {
            invalid(&format!(
                "No OpenIDConnect provider found in your account for {issuer}"
            ))
        })?;
        match provider.keys.check(&token) {
            Signature::Good => {}
            Signature::UnknownKey => {
                return Err(invalid(
                    "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements",
                ));
            }
            Signature::Wrong => {
                return Err(invalid(
                    "The ID Token provided failed signature verification",
                ));
            }
        }
        let (now, until) = (self.account.clock.now(), token.number("exp"));
        if now >= until {
            let words = format!(
                "Token expired: current date/time {now} must be before the expiration date/time{until}"
            );
            return Err(error(400, "ExpiredTokenException", &words));
        }
        if now < token.number("nbf") {
            return Err(invalid("The ID Token provided is not valid yet"));
        }
        if !provider
            .audiences
            .iter()
            .any(|known| known == token.text("aud"))
        {
            return Err(invalid("Incorrect token audience"));
        }
        let denied = || {
            error(
                403,
                "AccessDenied",
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            )
        };
        let role = self.account.role(&assumption.arn).ok_or_else(denied)?;
        let subject = token.text("sub");
        if !role
            .subjects
            .iter()
            .any(|pattern| matches(pattern, subject))
        {
            return Err(denied());
        }
        let given = self.open(&role, &assumption)?;
        let host = issuer.trim_start_matches("https://");
        let provider = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{host}");
        let result = [
            given,
            element("SubjectFromWebIdentityToken", subject),
            element("Provider", &provider),
            element("Audience", token.text("aud")),
        ];
        Ok(response("AssumeRoleWithWebIdentity", &result.concat()))
    }

    fn assume_by_session(
        &self,
        fields: &BTreeMap<String, String>,
        session: &Session,
    ) -> Result<Answer, Answer> {
        let assumption = Assumption::parse(fields)?;
        let own = format!("arn:aws:iam::{ACCOUNT}:role/{}", session.role);
        let role = self
            .account
            .role(&assumption.arn)
            .filter(|role| role.trusted_roles.contains(&own));
        let role = role.ok_or_else(|| {
            let words = format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {}",
                session.arn(),
                assumption.arn
            );
            error(403, "AccessDenied", &words)
        })?;
        if assumption.seconds > CHAINED {
            let words = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining";
            return Err(error(400, "ValidationError", words));
        }
        let given = self.open(&role, &assumption)?;
        Ok(response("AssumeRole", &given))
    }

    /// Opens the session; the answer's elements that tell of it.
    fn open(&self, role: &Role, assumption: &Assumption) -> Result<String, Answer> {
        if assumption.seconds > role.longest_session {
            let words =
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
            return Err(error(400, "ValidationError", words));
        }
        let session = self
            .account
            .open_session(role, &assumption.name, assumption.seconds);
        let credentials = [
            element("AccessKeyId", &session.access_key),
            element("SecretAccessKey", &session.secret),
            element("SessionToken", &session.token),
            element("Expiration", &iso(session.until)),
        ];
        let id = format!("{}:{}", role_id(&role.name), session.name);
        let user = [
            element("AssumedRoleId", &id),
            element("Arn", &session.arn()),
        ];
        Ok(format!(
            "<Credentials>{}</Credentials><AssumedRoleUser>{}</AssumedRoleUser>",
            credentials.concat(),
            user.concat()
        ))
    }
}

fn caller(session: &Session, as_json: bool) -> Answer {
    let (arn, id) = (session.arn(), session.user_id());
    if as_json {
        let result = json!({"Account": ACCOUNT, "Arn": arn, "UserId": id});
        let metadata = json!({"RequestId": uuid()});
        return Answer::json(
            200,
            &json!({"GetCallerIdentityResponse": {
                "GetCallerIdentityResult": result, "ResponseMetadata": metadata,
            }}),
        );
    }
    let result = [
        element("Arn", &arn),
        element("UserId", &id),
        element("Account", ACCOUNT),
    ];
    response("GetCallerIdentity", &result.concat())
}

impl Assumption {
    fn parse(fields: &BTreeMap<String, String>) -> Result<Self, Answer> {
        let arn = required(fields, "RoleArn", "roleArn")?;
        let name = required(fields, "RoleSessionName", "roleSessionName")?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        if arn.len() < 20 {
            return Err(invalid(
                arn,
                "roleArn",
                "Member must have length greater than or equal to 20",
            ));
        }
        if !arn.starts_with("arn:aws:iam::") || !arn.contains(":role/") {
            return Err(error(400, "ValidationError", &format!("{arn} is invalid")));
        }
        if !name.chars().all(is_allowed) {
            let rule = "Member must satisfy regular expression pattern: [\\w+=,.@-]*";
            return Err(invalid(name, "roleSessionName", rule));
        }
        if name.len() < 2 {
            return Err(invalid(
                name,
                "roleSessionName",
                "Member must have length greater than or equal to 2",
            ));
        }
        if name.len() > 64 {
            return Err(invalid(
                name,
                "roleSessionName",
                "Member must have length less than or equal to 64",
            ));
        }
        let text = fields.get("DurationSeconds").map_or("3600", String::as_str);
        let seconds: i64 = text
            .parse()
            .map_err(|_| error(400, "MalformedInput", "The input is not a number"))?;
        if seconds < 900 {
            return Err(invalid(
                text,
                "durationSeconds",
                "Member must have value greater than or equal to 900",
            ));
        }
        if seconds > 43_200 {
            return Err(invalid(
                text,
                "durationSeconds",
                "Member must have value less than or equal to 43200",
            ));
        }
        Ok(Self {
            arn: arn.to_owned(),
            name: name.to_owned(),
            seconds,
        })
    }
}

fn required<'a>(
    fields: &'a BTreeMap<String, String>,
    name: &str,
    shown: &str,
) -> Result<&'a str, Answer> {
    let missing = || {
        let words = format!(
            "1 validation error detected: Value null at '{shown}' failed to satisfy constraint: Member must not be null"
        );
        error(400, "ValidationError", &words)
    };
    fields.get(name).map(String::as_str).ok_or_else(missing)
}

fn invalid(value: &str, name: &str, rule: &str) -> Answer {
    let words = format!(
        "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: {rule}"
    );
    error(400, "ValidationError", &words)
}

impl Service for Sts {
    fn answer(&self, request: &Received) -> Answer {
        if request.path != "/" {
            return error(404, "InvalidPath", "The requested path does not exist");
        }
        self.route(request).unwrap_or_else(|refusal| refusal)
    }

    fn state(&self) -> Value {
        let sessions: Vec<String> = self.account.sessions().iter().map(Session::arn).collect();
        json!({"sessions": sessions})
    }
}

#[cfg(test)]
mod tests;
