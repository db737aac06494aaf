// Package report computes medians and ratios of the samples, and prints the tables.
package report
