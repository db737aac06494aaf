// Package docker knows two things of the Docker engine of this machine: where the
// containers are that services run in, and which ports docker-proxy listens on.
//
// It asks the engine on its Unix socket, with GET and nothing else: for a container, a
// network, the list of containers, and the events. For these four the official client
// library is far too heavy, so this is net/http and encoding/json. The paths have no
// version: an engine refuses those that are too old for it (29.0 the versions before
// 1.44), and what is read here has been the same since networks came, in 1.21.
package docker
