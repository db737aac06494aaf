// Package udplink carries the flows of package datagram over the links of package dtlslink.
package udplink
