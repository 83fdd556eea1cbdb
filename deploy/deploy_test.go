package deploy

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

type replica struct {
	Replicas int
	Template struct {
		Spec struct {
			RestartPolicy string `yaml:"restartPolicy"`
			Containers    []struct {
				Name, Image   string
				Command, Args []string
				Resources     map[string]any
				VolumeMounts  []map[string]string `yaml:"volumeMounts"`
			}
			Volumes []map[string]any
		}
	}
}

// The fields of Kubeflow's MPIJob v2beta1 that the manifest uses. Others are mistakes.
type mpiJob struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   map[string]string
	Spec       struct {
		SlotsPerWorker         int            `yaml:"slotsPerWorker"`
		LauncherCreationPolicy string         `yaml:"launcherCreationPolicy"`
		MPIImplementation      string         `yaml:"mpiImplementation"`
		RunPolicy              map[string]any `yaml:"runPolicy"`
		MPIReplicaSpecs        struct {
			Launcher replica `yaml:"Launcher"`
			Worker   replica `yaml:"Worker"`
		} `yaml:"mpiReplicaSpecs"`
	}
}

func TestMPIJob(t *testing.T) {
	text, err := os.ReadFile("mpijob.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var job mpiJob
	if err := yaml.UnmarshalWithOptions(text, &job, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if job.APIVersion != "kubeflow.org/v2beta1" || job.Kind != "MPIJob" {
		t.Errorf("it is a %s of %s", job.Kind, job.APIVersion)
	}
	launcher, worker := job.Spec.MPIReplicaSpecs.Launcher, job.Spec.MPIReplicaSpecs.Worker
	if len(launcher.Template.Spec.Containers) != 1 || len(worker.Template.Spec.Containers) != 1 {
		t.Fatal("launcher and worker have one container each")
	}
	command := strings.Join(append(launcher.Template.Spec.Containers[0].Command, launcher.Template.Spec.Containers[0].Args...), " ")
	if want := "mpirun -np 4 --bind-to none broadside-mpi train "; !strings.HasPrefix(command, want) {
		t.Errorf("the launcher runs %q, want %q and more", command, want)
	}
	if worker.Replicas*job.Spec.SlotsPerWorker != 4 {
		t.Errorf("%d workers with %d slots each hold other than 4 ranks", worker.Replicas, job.Spec.SlotsPerWorker)
	}
	if launcher.Template.Spec.Containers[0].Image != worker.Template.Spec.Containers[0].Image {
		t.Error("launcher and workers differ in their image")
	}
	volumes := map[any]bool{}
	for _, v := range worker.Template.Spec.Volumes {
		volumes[v["name"]] = true
	}
	for _, m := range worker.Template.Spec.Containers[0].VolumeMounts {
		if !volumes[m["name"]] {
			t.Errorf("there is no volume %s", m["name"])
		}
	}
}

func TestSlurmScript(t *testing.T) {
	if out, err := exec.Command("bash", "-n", "slurm.sbatch").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// What it runs, with echo in place of mpirun.
	folder := t.TempDir()
	if err := os.WriteFile(folder+"/mpirun", []byte("#!/bin/sh\necho mpirun \"$@\"\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "slurm.sbatch", "quickstart", "--run", "runs/a b")
	cmd.Env = append(os.Environ(), "SLURM_NTASKS=4", "PATH="+folder+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if want := "mpirun -np 4 --bind-to none bin/broadside-mpi train quickstart --run runs/a b\n"; err != nil || string(out) != want {
		t.Errorf("it runs %q, %v; want %q", out, err, want)
	}
}
