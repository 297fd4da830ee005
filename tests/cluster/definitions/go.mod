module github.com/switchyard-ci/switchyard/tests/cluster/definitions

go 1.26.0

require (
	github.com/traefik/traefik/v3 v3.7.13
	sigs.k8s.io/gateway-api v1.5.1
)
