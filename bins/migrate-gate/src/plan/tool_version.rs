//! Which version of Prisma a project has installed, without running anything of it.

use std::path::Path;

use serde::Deserialize;

use crate::project::{Schema, Tool};

#[derive(Deserialize)]
struct Package {
    version: String,
}

/// The version of the schema's tool; `None` where it is not installed, or is any command.
pub(crate) fn tool_version(schema: &Schema) -> Option<String> {
    match schema.tool {
        // It is started there, and found from there.
        Tool::Prisma => prisma(schema.directory.as_ref().unwrap_or(&schema.path)),
        Tool::Command => None,
    }
}

/// As Node finds a package: in `node_modules` of the folder or of the nearest one above it.
fn prisma(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    path.ancestors().find_map(|folder| {
        let file = folder.join("node_modules/prisma/package.json");
        let text = std::fs::read_to_string(file).ok()?;
        serde_json::from_str::<Package>(&text)
            .ok()
            .map(|package| package.version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_installation_counts() {
        let root = tempfile::tempdir().unwrap();
        let install = |folder: &str, version: &str| {
            let folder = root.path().join(folder).join("node_modules/prisma");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(
                folder.join("package.json"),
                format!(r#"{{"version":"{version}"}}"#),
            )
            .unwrap();
        };
        let path = root.path().join("app/prisma");
        std::fs::create_dir_all(&path).unwrap();
        let prisma = |path: &Path| tool_version(&Schema::alone(path, Tool::Prisma));
        assert_eq!(prisma(&path), None);
        install(".", "5.0.0");
        assert_eq!(prisma(&path).as_deref(), Some("5.0.0"));
        install("app", "6.19.3");
        assert_eq!(prisma(&path).as_deref(), Some("6.19.3"));
        install("packages/db", "7.1.0");
        let elsewhere = Schema {
            directory: Some(root.path().join("packages/db")),
            ..Schema::alone(&path, Tool::Prisma)
        };
        assert_eq!(tool_version(&elsewhere).as_deref(), Some("7.1.0"));
    }
}
