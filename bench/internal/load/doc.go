// Package load has the peers and the service of a measurement, each of which is a process of its own.
package load
