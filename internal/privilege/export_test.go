package privilege

// What the tests look at by itself.
var (
	Directories      = directories
	KeepCapabilities = keepCapabilities
)
