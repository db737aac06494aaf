// Package far connects two hosts of package testnet over a long distance: packets arrive after a delay, at a limited rate, and
// some are lost. Each host gets a TUN device, and this process forwards the packets between the two.
package far
