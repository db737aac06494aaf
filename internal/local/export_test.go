package local

var Namespace = namespace

func (s Service) Name(namespace string, pid int) string { return s.name(namespace, pid) }
func (s Service) InText(text, ns string) []int          { return s.find(text, ns) }
