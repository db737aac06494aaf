// Package datagram carries UDP between peers and services.
package datagram
