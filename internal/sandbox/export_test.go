package sandbox

// KeepCapabilities is tested by itself.
var KeepCapabilities = keepCapabilities
