//! What differs between Azure's clouds.

/// One of Azure's clouds, which trust each other in nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// The public cloud.
    Public,
    /// Azure Government of the United States.
    UsGovernment,
    /// Azure in China.
    China,
}

impl Cloud {
    /// The audience that a federated credential of this cloud wants.
    #[must_use]
    pub fn assertion_audience(self) -> &'static str {
        match self {
            Self::Public => "api://AzureADTokenExchange",
            Self::UsGovernment => "api://AzureADTokenExchangeUSGov",
            Self::China => "api://AzureADTokenExchangeChina",
        }
    }

    /// Azure Resource Manager's address, which is also what its tokens are for.
    #[must_use]
    pub fn resource_manager(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::UsGovernment => "https://management.usgovcloudapi.net",
            Self::China => "https://management.chinacloudapi.cn",
        }
    }

    /// Who issues the access tokens of a tenant.
    #[must_use]
    pub fn issuer(self, tenant: &str) -> String {
        match self {
            Self::Public | Self::UsGovernment => format!("https://sts.windows.net/{tenant}/"),
            Self::China => format!("https://sts.chinacloudapi.cn/{tenant}/"),
        }
    }

    /// The cloud's name in kubelogin's arguments.
    #[must_use]
    pub fn environment(self) -> &'static str {
        match self {
            Self::Public => "AzurePublicCloud",
            Self::UsGovernment => "AzureUSGovernmentCloud",
            Self::China => "AzureChinaCloud",
        }
    }
}
