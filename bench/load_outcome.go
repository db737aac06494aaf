package main

// outcome is what a load, or a command to one, has to tell: a line of JSON.
type outcome struct {
	Values map[string]float64 `json:"values"`
	// Problem is the first thing that went wrong. It is no failure of the
	// measurement: values tell how often that was.
	Problem string `json:"problem,omitempty"`
}

// values are what a measurement has found, by the key of the metric.
type values = map[string]float64
