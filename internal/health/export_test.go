package health

var (
	Name      = name
	Namespace = namespace
	InText    = find
)
