package relay_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestFilesReadOneWay checks that the package's comment lists its files, and that the functions of
// a file call only those of its own and of later ones.
func TestFilesReadOneWay(t *testing.T) {
	fset := token.NewFileSet()
	var files []*ast.File
	order := make(map[string]int)
	paths, err := filepath.Glob("*.go")
	nstest.Must(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		nstest.Must(t, err)
		files = append(files, f)
		if path == "doc.go" {
			for _, line := range regexp.MustCompile(`(?m)^\t(\w+(?:, \w+)*)  `).FindAllStringSubmatch(f.Doc.Text(), -1) {
				for name := range strings.SplitSeq(line[1], ", ") {
					order[name+".go"] = len(order) + 1
				}
			}
		}
	}
	if len(order) != len(files)-1 { // but for doc.go
		t.Errorf("the package's comment lists %d files of %d", len(order), len(files)-1)
	}
	info := types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Error: func(error) {}} // other packages are not loaded
	_, _ = config.Check("relay", fset, files, &info)
	calls := 0
	for id, object := range info.Uses {
		f, ok := object.(*types.Func)
		if !ok || !f.Pos().IsValid() {
			continue
		}
		calls++
		from, to := fset.Position(id.Pos()), fset.Position(f.Pos())
		if order[to.Filename] == 0 || order[to.Filename] < order[from.Filename] {
			t.Errorf("%s calls %s, which is in %s", from, f.Name(), to.Filename)
		}
	}
	if calls < 100 {
		t.Errorf("found only %d calls", calls)
	}
}
