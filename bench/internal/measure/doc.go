// Package measure has the rows of the comparison: what is measured, with which load, for how long.
package measure
