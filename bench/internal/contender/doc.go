// Package contender has the redirectors that are compared, and starts each of them in a world.
package contender
