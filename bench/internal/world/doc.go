// Package world has the machines of a measurement, in network namespaces, and the processes that run there.
package world
