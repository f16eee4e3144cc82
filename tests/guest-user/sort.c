/* Quicksort of random numbers: loads, stores, compares, branches that cannot be predicted. */
#include "user.h"

enum { COUNT = 200000, SMALL = 12 };

const char program_name[] = "sort";
const unsigned program_repetitions = 10;
const uint32_t program_checksum = 2390904409u;

static uint32_t numbers[COUNT];

static void insertion_sort(uint32_t *a, int count)
{
	for (int i = 1; i < count; i++) {
		uint32_t value = a[i];
		int j = i;
		for (; j > 0 && a[j - 1] > value; j--) a[j] = a[j - 1];
		a[j] = value;
	}
}

static void quicksort(uint32_t *a, int count)
{
	while (count > SMALL) {
		uint32_t pivot = a[count / 2];
		int i = 0, j = count - 1;
		while (i <= j) {
			while (a[i] < pivot) i++;
			while (a[j] > pivot) j--;
			if (i <= j) {
				uint32_t value = a[i];
				a[i++] = a[j];
				a[j--] = value;
			}
		}
		quicksort(a, j + 1);
		a += i;
		count -= i;
	}
	insertion_sort(a, count);
}

uint32_t program_run(void)
{
	uint32_t x = 7, sum = 0;
	for (int i = 0; i < COUNT; i++) numbers[i] = x = next_random(x);
	quicksort(numbers, COUNT);
	for (int i = 0; i < COUNT; i++) {
		if (i && numbers[i - 1] > numbers[i]) return 0;
		sum = mix(sum, numbers[i]);
	}
	return sum;
}
