package load

// Outcome is what a load, or a command to one, has to tell: a line of JSON.
type Outcome struct {
	Values map[string]float64 `json:"values"`
	// Problem is the first error. It does not fail the measurement: the values say how often errors occurred.
	Problem string `json:"problem,omitempty"`
}

// Values are what a measurement has found, by the key of the metric.
type Values = map[string]float64
