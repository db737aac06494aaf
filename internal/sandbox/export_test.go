package sandbox

// What the tests look at by itself.
var (
	Directories      = directories
	KeepCapabilities = keepCapabilities
)
