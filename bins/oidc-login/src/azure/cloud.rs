//! The clouds of Azure: where their services are, and for whom a token of GitHub's must be.

use clap::ValueEnum;
use switchyard_http::DisplaySafeUrl;

use crate::inputs::HttpsUrl;

/// One of Azure's clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cloud {
    /// The public cloud.
    Public,
    /// US Government.
    UsGov,
    /// China, operated by 21Vianet.
    China,
}

impl Cloud {
    /// Name as the input has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::UsGov => "us-gov",
            Self::China => "china",
        }
    }

    /// The URL that was given, else the cloud's own.
    pub(crate) fn url_or(
        self,
        given: Option<&HttpsUrl>,
        own: fn(Self) -> &'static str,
    ) -> DisplaySafeUrl {
        match given {
            Some(given) => given.url().clone(),
            None => DisplaySafeUrl::parse(own(self)).expect("the clouds' URLs are URLs"),
        }
    }

    /// Base URL of Entra.
    pub(crate) fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::UsGov => "https://login.microsoftonline.us",
            Self::China => "https://login.chinacloudapi.cn",
        }
    }

    /// Base URL of Azure Resource Manager; also the resource that its tokens are for.
    pub(crate) fn resource_manager(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::UsGov => "https://management.usgovcloudapi.net",
            Self::China => "https://management.chinacloudapi.cn",
        }
    }

    /// The audience of a GitHub token that Entra takes.
    pub(crate) fn audience(self) -> &'static str {
        match self {
            Self::Public => "api://AzureADTokenExchange",
            Self::UsGov => "api://AzureADTokenExchangeUSGov",
            Self::China => "api://AzureADTokenExchangeChina",
        }
    }

    /// The cloud whose Entra takes tokens for this audience.
    pub(crate) fn of_audience(audience: &str) -> Option<Self> {
        let clouds = [Self::Public, Self::UsGov, Self::China];
        clouds
            .into_iter()
            .find(|cloud| cloud.audience() == audience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cloud_has_its_services() {
        for cloud in Cloud::value_variants() {
            let _ = cloud.url_or(None, Cloud::authority);
            let _ = cloud.url_or(None, Cloud::resource_manager);
        }
    }
}
