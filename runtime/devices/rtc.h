/* The clock and CMOS memory behind ports 70h and 71h. */
#ifndef RUNTIME_DEVICES_RTC_H
#define RUNTIME_DEVICES_RTC_H

#include "runtime/devices/board.h"

struct rtc {
	struct board *board;
	struct board_timer timer;
	uint8_t index;
	uint8_t cmos[128];
	int64_t offset;   /* guest's seconds minus the host's */
	int64_t seen;     /* wall nanoseconds up to which the flags of register C are right */
};

void rtc_init(struct rtc *r, struct board *b, uint64_t ram_size);
void rtc_reset(struct rtc *r);

#endif
