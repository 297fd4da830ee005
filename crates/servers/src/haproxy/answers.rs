//! What HAProxy's answers mean. Text in, plain data out.

use std::collections::HashMap;
use std::time::Duration;

use crate::{Address, Admin, Checks, Look, Process, Server};

/// Bits of `srv_admin_state` (include/haproxy/server-t.h): forced, inherited, configured, unresolved.
const MAINT: u32 = 0x01 | 0x02 | 0x04 | 0x20 | 0x40;
const DRAIN: u32 = 0x08 | 0x10;
/// Bit of `srv_check_state`: checks are configured.
const CHECK_CONFIGURED: u32 = 0x02;

/// Whether `show servers state` knows no such backend.
pub(super) fn denies_the_backend(answer: &str) -> bool {
    answer.lines().any(|line| line == "Can't find backend.")
}

/// The answers to `show info`, `show servers state BACKEND` and `show stat -1 4 -1`, in one text.
pub(super) fn look(answer: &str) -> Result<Look, String> {
    let (info, rest) = answer.split_once("\n\n").ok_or("`show info` has no end")?;
    let states = table(rest, "# be_id ", ' ').ok_or("`show servers state` has no header")?;
    let stats = table(rest, "# pxname,", ',').ok_or("`show stat` has no header")?;
    let servers = states
        .iter()
        .map(|state| {
            let (backend, name) = (text(state, "be_id")?, text(state, "srv_name")?);
            let is_it = |stat: &&Row<'_>| {
                stat.get("iid") == Some(&backend) && stat.get("svname") == Some(&name)
            };
            let stat = stats.iter().find(is_it);
            server(
                state,
                stat.ok_or_else(|| format!("`show stat` leaves out `{name}`"))?,
            )
        })
        .collect::<Result<_, String>>()?;
    Ok(Look {
        process: process(info)?,
        servers,
    })
}

/// A text of unknown origin in one short line.
pub(super) fn printable(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.chars().filter(|c| !c.is_control());
    line.take(200).collect()
}

fn process(info: &str) -> Result<Process, String> {
    let values: HashMap<&str, &str> = info
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let seconds: u64 = number(&values, "Uptime_sec")?;
    Ok(Process {
        node: printable(values.get("node").copied().unwrap_or_default()),
        pid: number(&values, "Pid")?,
        // Since HAProxy 2.4.
        started: number(&values, "Start_time_sec").unwrap_or(0),
        uptime: Duration::from_secs(seconds),
        version: printable(text(&values, "Version")?),
        is_stopping: values.get("Stopping").is_some_and(|value| *value != "0"),
    })
}

fn server(state: &Row<'_>, stat: &Row<'_>) -> Result<Server, String> {
    let admin: u32 = number(state, "srv_admin_state")?;
    let check: u32 = number(state, "srv_check_state")?;
    let port: u16 = number(state, "srv_port")?;
    let host = text(state, "srv_addr")?;
    Ok(Server {
        name: text(state, "srv_name")?.to_owned(),
        address: (port > 0 && host != "-").then(|| Address {
            host: host.to_owned(),
            port,
        }),
        admin: match admin {
            bits if bits & MAINT != 0 => Admin::Maint,
            bits if bits & DRAIN != 0 => Admin::Drain,
            _ => Admin::Ready,
        },
        // 0 is stopped, 1 starting (a slow start), 2 running, 3 stopping (no new clients, as when drained).
        is_running: matches!(number::<u32>(state, "srv_op_state")?, 1 | 2),
        is_backup: number::<u32>(stat, "bck")? > 0,
        checks: if check & CHECK_CONFIGURED == 0 || admin & MAINT != 0 {
            Checks::None
        } else {
            checks(stat)
        },
        status: text(stat, "status")?.to_owned(),
        weight: number(state, "srv_uweight")?,
        own_weight: number(state, "srv_iweight")?,
        sessions: number(stat, "scur")?,
        queued: number(stat, "qcur")?,
    })
}

/// All of the last `fall` checks have passed when health stands at its highest, `rise + fall - 1`
/// (<https://docs.haproxy.org/2.6/management.html#9.1>, fields 66 to 68).
fn checks(stat: &Row<'_>) -> Checks {
    let field = |name| number::<u64>(stat, name).ok();
    match (
        field("check_rise"),
        field("check_fall"),
        field("check_health"),
    ) {
        (Some(rise), Some(fall), Some(health)) if health + 1 >= rise + fall => Checks::Passing,
        _ => Checks::Unsettled,
    }
}

type Row<'a> = HashMap<&'a str, &'a str>;

/// The rows of a table whose header begins so, up to the empty line after it, by column.
fn table<'a>(text: &'a str, header: &str, separator: char) -> Option<Vec<Row<'a>>> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(header));
    let columns: Vec<&str> = lines
        .next()?
        .trim_start_matches("# ")
        .split(separator)
        .collect();
    let rows = lines.take_while(|line| !line.is_empty());
    let row = |line: &'a str| columns.iter().copied().zip(line.split(separator)).collect();
    Some(rows.map(row).collect())
}

fn text<'a>(row: &HashMap<&'a str, &'a str>, column: &str) -> Result<&'a str, String> {
    let value = row.get(column).copied();
    value.ok_or_else(|| format!("it has no `{column}`"))
}

fn number<T: std::str::FromStr>(row: &HashMap<&str, &str>, column: &str) -> Result<T, String> {
    let value = row.get(column).copied();
    let value = value.ok_or_else(|| format!("it has no `{column}`"))?;
    let parsed = value.parse();
    parsed.map_err(|_| format!("`{column}` is `{}`, no number", printable(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "Name: HAProxy\nVersion: 2.6.12\nPid: 952\nUptime: 0d 0h00m03s\nUptime_sec: 3\nnode: lb-1\nStopping: 0\nStart_time_sec: 1795672300\n";
    const STATES: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_check_state srv_port\n";
    const STATS: &str =
        "# pxname,svname,qcur,scur,status,bck,check_rise,check_fall,check_health,iid\n";

    fn answer(states: &str, stats: &str) -> String {
        format!("{INFO}\n{STATES}{states}\n{STATS}{stats}\n")
    }

    #[test]
    fn admin_state_is_read_from_its_bits_whoever_set_them() {
        for (bits, admin) in [
            (0, Admin::Ready),
            (1, Admin::Maint),
            (4, Admin::Maint),
            (5, Admin::Maint),
            (8, Admin::Drain),
            (0x10, Admin::Drain),
            (0x20, Admin::Maint),
            (9, Admin::Maint),
        ] {
            let text = answer(
                &format!("3 web 1 web1 10.0.0.1 2 {bits} 1 1 6 80\n"),
                "web,web1,0,0,UP,0,2,3,4,3\n",
            );
            assert_eq!(look(&text).unwrap().servers[0].admin, admin, "{bits:#x}");
        }
    }

    #[test]
    fn a_server_that_was_just_told_to_be_used_is_unsettled_until_a_check_has_passed() {
        let read = |health| {
            let text = answer(
                "3 web 1 web1 10.0.0.1 2 8 1 1 6 80\n",
                &format!("web,web1,0,0,DRAIN 1/3,0,2,3,{health},3\n"),
            );
            look(&text).unwrap().servers[0].checks
        };
        assert_eq!((read(2), read(4)), (Checks::Unsettled, Checks::Passing));
    }

    #[test]
    fn a_server_without_checks_has_none_and_one_on_a_unix_socket_no_address() {
        let text = answer(
            "3 web 1 web1 /run/web.sock 2 0 1 1 0 0\n",
            "web,web1,1,2,no check,1,,,,3\n",
        );
        let look = look(&text).unwrap();
        let server = &look.servers[0];
        assert_eq!(server.checks, Checks::None);
        assert_eq!(server.address, None);
        assert!(server.is_backup && !server.is_quiet());
        assert_eq!((look.process.pid, look.process.uptime.as_secs()), (952, 3));
    }

    #[test]
    fn a_server_of_the_same_name_in_another_backend_is_another_one() {
        let text = answer(
            "3 web 1 web1 10.0.0.1 2 0 1 1 6 80\n",
            "api,web1,0,7,DOWN,0,2,3,0,2\nweb,web1,0,1,UP,0,2,3,4,3\n",
        );
        let look = look(&text).unwrap();
        assert_eq!(
            (look.servers[0].sessions, &*look.servers[0].status),
            (1, "UP")
        );
    }

    #[test]
    fn what_is_missing_or_no_number_is_said_and_never_taken_for_nothing() {
        let whole = answer(
            "3 web 1 web1 10.0.0.1 2 0 1 1 6 80\n",
            "web,web1,0,0,UP,0,2,3,4,3\n",
        );
        assert!(look(&whole).is_ok());
        for (from, to, said) in [
            ("web,web1,0,0", "web,web1,0,", "`scur` is ``"),
            ("web,web1", "web,web2", "leaves out `web1`"),
            ("Pid: 952\n", "", "no `Pid`"),
            ("# pxname", "# other", "`show stat` has no header"),
            ("srv_admin_state", "srv_other", "no `srv_admin_state`"),
        ] {
            let reason = look(&whole.replace(from, to)).unwrap_err();
            assert!(reason.contains(said), "{reason}");
        }
    }
}
