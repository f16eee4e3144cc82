/* Run the inputs of a corpus through a fuzzing entry point: driver FILE|FOLDER...  Reports as TAP, a line for each argument. */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "fuzz.h"

static void run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct stat st;
	if (!file || fstat(fileno(file), &st)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	/* If it ends badly, the last name is the one. */
	printf("# %s\n", path);
	fflush(stdout);
	/* Of its size exactly, so that a sanitizer sees a read behind it. */
	uint8_t *data = malloc((size_t)st.st_size);
	size_t size = fread(data, 1, (size_t)st.st_size, file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
}

/* Returns how many. */
static unsigned run_folder(const char *path, DIR *folder)
{
	unsigned count = 0;
	char name[4096];
	for (struct dirent *entry; (entry = readdir(folder));) {
		if (entry->d_name[0] == '.') continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		run_file(name);
		count++;
	}
	closedir(folder);
	return count;
}

int main(int argc, char **argv)
{
	puts("TAP version 13");
	bool good = argc > 1;
	for (int i = 1; i < argc; i++) {
		DIR *folder = opendir(argv[i]);
		unsigned count = folder ? run_folder(argv[i], folder) : 1;
		if (!folder) run_file(argv[i]);
		printf("%sok %d - %u inputs of %s\n", count ? "" : "not ", i, count, argv[i]);
		good &= count != 0;
	}
	printf("1..%d\n", argc - 1);
	return good ? 0 : 1;
}
