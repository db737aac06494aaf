package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// commandLine matches a command of ours in a Compose file, which is written as JSON, and variable one that is to be set.
var (
	commandLine = regexp.MustCompile(`(?m)^    image: portredirector\n    command: (\[.*\])$`)
	variable    = regexp.MustCompile(`\$\{\w+:\?[^}]*\}`)
)

// TestComposeFiles parses the commands in contrib/compose.
func TestComposeFiles(t *testing.T) {
	files, err := filepath.Glob("../../contrib/compose/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found := commandLine.FindSubmatch(text)
			if found == nil {
				t.Fatal("there is no command of ours")
			}
			var args []string
			if err := json.Unmarshal(variable.ReplaceAll(found[1], []byte(aKey)), &args); err != nil {
				t.Fatal(err)
			}
			if err := parse(args); err != nil {
				t.Error(err)
			}
		})
	}
}
