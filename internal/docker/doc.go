// Package docker asks the Docker engine of this machine where containers are, and finds
// the ports that docker-proxy listens on.
//
// It asks on the engine's Unix socket, with GET only: for a container, a network, the list
// of containers, and the events. The official client library is far too heavy for these
// four, so the package uses net/http and encoding/json. The paths have no version, because
// an engine refuses versions that are too old for it: engine 29.0 those before 1.44. The
// fields that are read here have been the same since networks came in 1.21.
package docker
