package load

// Outcome is the result of a load, or of a command to one, as a line of JSON.
type Outcome struct {
	Values map[string]float64 `json:"values"`
	// Problem is the first error. It does not fail the measurement: the values say how often errors occurred.
	Problem string `json:"problem,omitempty"`
}

// Values are the results of a measurement, by the key of the metric.
type Values = map[string]float64
